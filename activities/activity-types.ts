/**
 * Signatures of every activity, spelled out so that workflows import one small type and editors stay fast.
 * One object in, one object out; names are minted by the workflow; every call may happen twice.
 */

import type { Priority } from '../domain/capacity/priority.ts';
import type { PoolRound } from '../domain/pool/pool-round.ts';
import type { VmOwner, VmStart } from '../domain/vm.ts';
import type { Observation } from '../domain/workload/supervision.ts';
import type {
  Resources,
  ServiceExit,
  ServiceManifest,
  ServiceNeeds,
  WorkloadState,
} from '../domain/workload/workload.ts';
import type { CarriedLogLine } from '../domain/workload/workload-input.ts';

/** A VM's owner as the workflow knows it; the host adds the id of its namespace. */
export type OwnerClaim = Omit<VmOwner, 'namespaceId'>;

/** What every host activity of a workload is told. */
export interface WorkloadRef {
  readonly workloadId: string;
  readonly epoch: number;
}

export type Placement =
  | {
      readonly kind: 'placed';
      readonly hostId: string;
      readonly image: { readonly name: string; readonly digest: string };
    }
  /** `ahead`: how many are served before it. */
  | { readonly kind: 'wait'; readonly reason: string; readonly ahead?: number }
  | { readonly kind: 'impossible'; readonly reason: string };

export interface ControlActivities {
  /** Resolves the image and picks the least loaded host that fits. @throws IMAGE_MISSING, STORE_UNAVAILABLE */
  placeWorkload(input: {
    workloadId: string;
    image: string;
    resources: Resources;
    excludedHosts: readonly string[];
    freshForMs: number;
    /** Its place in the line, should it have to wait; absent in calls of older workflows, which wait in no line. */
    place?: {
      priority: Priority;
      /** Age of its request, ms since 1970: who came first goes first. */
      sinceMs: number;
      /** Those who were not seen in the line for this long no longer count, ms. */
      seenForMs: number;
    };
    /** ISO 8601, when the request was accepted; only with the first question of a workload. */
    requestedAt?: string;
  }): Promise<Placement>;
  /** The workload no longer waits for capacity. Not in the line: nothing to do. @throws STORE_UNAVAILABLE */
  leaveLine(input: { workloadId: string }): Promise<void>;
  /** @returns the digest a reference stands for now. @throws IMAGE_MISSING, STORE_UNAVAILABLE */
  resolveImage(input: { image: string }): Promise<{ name: string; digest: string }>;
  /** How long ago a host last registered; null where it never did. */
  checkHost(input: { hostId: string }): Promise<{ ageMs: number | null }>;
  /** Writes outcome and last control log line; afterwards the record no longer needs Temporal. */
  closeBooks(input: { state: WorkloadState; logLines: readonly ControlLogLine[] }): Promise<void>;
}

export type ControlLogLine = CarriedLogLine;

export interface HostActivities {
  /** @returns whether the host now holds the capacity under this id. */
  reserveCapacity(input: {
    reservationId: string;
    ownerWorkflowId: string;
    resources: Resources;
    ttlMs: number;
  }): Promise<{ reserved: boolean }>;
  /**
   * @returns also what the service needs, where its folder asks for something else than the request alone
   * @throws SERVICE_NOT_FOUND, MANIFEST_MISSING, CONFIG_INVALID, DEPENDENCY_UNDECLARED, ENV_MISSING
   */
  validateService(
    input: WorkloadRef & { servicePath: string; specHash: string },
  ): Promise<{ manifest: ServiceManifest; needs?: ServiceNeeds }>;
  /** Builds in a VM of the given name, or finds the output in the cache. The VM is gone again when this succeeds. */
  buildService(
    input: WorkloadRef & {
      servicePath: string;
      specHash: string;
      manifest: ServiceManifest;
      imageDigest: string;
      builder: {
        vmId: string;
        owner: OwnerClaim;
        resources: Resources;
        reservationTtlMs: number;
        bootMs: number;
        cold?: boolean;
      };
    },
  ): Promise<BuildResult>;
  provisionRootfs(
    input: WorkloadRef & {
      vmId: string;
      owner: OwnerClaim;
      imageDigest: string;
      resources: Resources;
      /** Boots cold even where there is a template: the last try from one has failed. */
      cold?: boolean;
    },
  ): Promise<{ provisioner: string; provisionMs: number; start: VmStart }>;
  bootVm(
    input: WorkloadRef & { vmId: string; hostname: string; deadlineMs: number },
  ): Promise<{ pid: number; bootMs: number; start: VmStart }>;
  startService(
    input: WorkloadRef & {
      vmId: string;
      specHash: string;
      manifest: ServiceManifest;
      build: BuildResult;
      port: number;
      hostPort?: number;
    },
  ): Promise<{ port: number; url: string; servicePid: number }>;
  /** Returns once the service answers. @throws HEALTH_FAILED, SERVICE_EXITED, DEPENDENCY_UNDECLARED, VMM_EXITED */
  checkHealth(
    input: WorkloadRef & { vmId: string; manifest: ServiceManifest; port: number },
  ): Promise<{ readyMs: number }>;
  /** Watches until something ends; heartbeats. */
  superviseVm(input: WorkloadRef & { vmId: string; manifest: ServiceManifest; port: number }): Promise<Observation>;
  /** SIGTERM, grace, SIGKILL to the service's process group. A service that is gone already is told as it ended. */
  stopService(input: WorkloadRef & { vmId: string; graceMs: number }): Promise<{ exit: ServiceExit }>;
  /** VMs with their ports and disks, then the reservation; each proven gone. Unknown names: nothing to do. */
  releaseVm(
    input: WorkloadRef & { vmIds: readonly string[]; reservationId?: string; graceMs: number },
  ): Promise<{ released: readonly string[] }>;
}

export interface PoolActivities {
  /** Looks images up, makes templates anew, recycles ready VMs and fills up. @returns what the pool is then */
  maintainPool(): Promise<PoolRound>;
}

export interface BuildResult {
  readonly sha256: string;
  readonly bytes: number;
  /** Whether the output came from the cache. */
  readonly cached: boolean;
}
