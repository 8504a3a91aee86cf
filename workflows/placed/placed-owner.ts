/** What a workflow that holds a VM tells the code that places, boots and releases the VM. */
import type { VmCall } from '../../activities/vm/vm-types.ts';
import type { Priority } from '../../domain/capacity/priority.ts';
import type { ServiceNeeds } from '../../domain/workload/workload.ts';

export interface PlacedOwner {
  readonly workflowId: string;
  /** Its name in the line for capacity: a workload's id. */
  readonly lineName: string;
  /** Host name of its guest; default: the id of the VM. */
  readonly hostname?: string;
  readonly projectId?: string;
  readonly priority?: Priority;
  /** Whether it may come back to a host that it has lost: docs/decisions/002. */
  readonly mayReturn?: true;
  /** ISO 8601, when it was asked for. */
  readonly requestedAt: string;
  /** What its VM needs, as far as it is known now. */
  needs(): ServiceNeeds;
  /** The VM call of this owner at that placement. */
  call(epoch: number): VmCall;
}

export interface ResolvedImage {
  readonly name: string;
  readonly digest: string;
}

/** Where the owner shows what is done for it. */
export interface PlacedProgress {
  /** Resolved once, then fixed. */
  readonly image: ResolvedImage | undefined;
  showImage(image: ResolvedImage): void;
  /** Why it waits, and how many are served before it; undefined when it does not wait. */
  wait(reason: string | undefined, ahead?: number): void;
  note(text: string): void;
  /** A VM with this name is being made. */
  showVm(vm: { hostId: string; epoch: number; boot: number; vmId: string }): void;
  /** The VM shown last now answers. */
  showBooted(vm: { pid: number }): void;
}
