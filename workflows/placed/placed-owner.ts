/** What a workflow that holds a VM tells of itself to all that places, boots and releases the VM for it. */
import type { VmCall } from '../../activities/vm/vm-types.ts';
import type { Priority } from '../../domain/capacity/priority.ts';
import type { ServiceNeeds } from '../../domain/workload/workload.ts';

export interface PlacedOwner {
  readonly workflowId: string;
  /** The name by which it stands in the line for capacity: a workload's id. */
  readonly lineName: string;
  /** Host name of its guest. */
  readonly hostname: string;
  readonly projectId?: string;
  readonly priority?: Priority;
  /** ISO 8601, when it was asked for. */
  readonly requestedAt: string;
  /** What its VM is to be, as known by now. */
  needs(): ServiceNeeds;
  /** Whose VM a call is about, at that placement. */
  call(epoch: number): VmCall;
}

export interface ResolvedImage {
  readonly name: string;
  readonly digest: string;
}

/** Where the owner shows what is done for it. */
export interface PlacedProgress {
  /** Resolved once, then kept. */
  readonly image: ResolvedImage | undefined;
  showImage(image: ResolvedImage): void;
  /** Why it waits, and how many are served before it; undefined once it no longer waits. */
  wait(reason: string | undefined, ahead?: number): void;
  note(text: string): void;
  /** A VM of this name is made from now on. */
  showVm(vm: { hostId: string; epoch: number; boot: number; vmId: string }): void;
  /** The VM that was shown last answers. */
  showBooted(vm: { pid: number }): void;
}
