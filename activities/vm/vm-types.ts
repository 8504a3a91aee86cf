/** Signatures of the activities that make, boot and release a VM of any owner. */
import type { OwnerRef } from '../../domain/owner.ts';
import type { VmOwner, VmStart } from '../../domain/vm.ts';
import type { Resources } from '../../domain/workload/workload.ts';

/** A VM's owner as the workflow knows it; the host adds the id of its namespace. */
export type OwnerClaim = Omit<VmOwner, 'namespaceId'>;

interface OfExecution {
  /** First execution of the owner's workflow: a later workflow of the same id is another owner. */
  readonly firstExecutionId?: string;
}

/** A workload at one of its placements: part of every call about its service. */
export interface WorkloadRef extends OfExecution {
  readonly workloadId: string;
  readonly epoch: number;
}

/** The owner that a call is about: a workload by its id, any other owner by kind and id. */
export type VmCall = WorkloadRef | (OfExecution & { readonly of: OwnerRef });

export interface VmActivities {
  /** @returns whether the host now holds the capacity under this id. */
  reserveCapacity(input: {
    reservationId: string;
    ownerWorkflowId: string;
    resources: Resources;
    ttlMs: number;
  }): Promise<{ reserved: boolean }>;
  provisionRootfs(
    input: VmCall & {
      vmId: string;
      owner: OwnerClaim;
      imageDigest: string;
      resources: Resources;
      /** Boots cold even where there is a template: the last try from a template has failed. */
      cold?: boolean;
    },
  ): Promise<{ provisioner: string; provisionMs: number; start: VmStart }>;
  bootVm(
    input: VmCall & { vmId: string; hostname: string; deadlineMs: number },
  ): Promise<{ pid: number; bootMs: number; start: VmStart }>;
  /** Releases VMs with their ports and disks, then the reservation; each is proven gone. Unknown names do nothing. */
  releaseVm(
    input: VmCall & { vmIds: readonly string[]; reservationId?: string; graceMs: number },
  ): Promise<{ released: readonly string[] }>;
}
