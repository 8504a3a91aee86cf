import type { KilnError } from '../../domain/failures.ts';
import type { GuestKind } from '../../domain/guest-kind.ts';
import type { PoolTemplate } from '../../domain/pool/pool-policy.ts';
import type { VmOwner } from '../../domain/vm.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';

/** A VM of the pool as recorded on disk. */
export interface ListedPoolVm {
  readonly poolVmId: string;
  readonly key: GuestKind;
  readonly createdAtMs: number;
  readonly template?: PoolTemplate;
  /** `broken`: it was not finished, or it has ended. */
  readonly state: 'ready' | 'broken';
}

/** What the pool does to VMs. Every call may be repeated after a crash at any point. */
export interface PooledVms {
  /**
   * Boots or clones a VM under that name and pauses it; capacity is reserved under the same name first. A failure
   * leaves nothing.
   * @returns the template it was cloned from; none where it booted cold, also because there was no usable template
   * @throws NO_CAPACITY where the host is full, and what a boot may throw
   */
  create(
    key: GuestKind,
    poolVmId: string,
    options: { from: 'template' | 'cold'; signal: AbortSignal },
  ): Promise<{ template?: PoolTemplate }>;
  /**
   * Makes it the workload's VM under the name that its workflow has chosen. Its identity is set when it is booted.
   * @returns false where it is gone. @throws CONFLICT where the name belongs to another owner
   */
  claim(poolVmId: string, to: { vmId: string; owner: VmOwner }): Promise<boolean>;
  /** Removes it, its disks and reservation, each proven gone. Leaves a claimed VM alone; an unknown one is no error. */
  destroy(poolVmId: string): Promise<void>;
  /** Every VM that the pool made and nobody has claimed. A process calls this before any other method. */
  list(): Promise<readonly ListedPoolVm[]>;
}

/** Templates that the VMs of a pool are cloned from. */
export interface PoolTemplates {
  /** Resolves once the templates of an earlier process have been checked; absent: they are usable from the start. */
  ready?(): Promise<void>;
  /** @returns the newest usable one; undefined where there is none */
  newest(key: GuestKind): Promise<PoolTemplate | undefined>;
  /**
   * Makes a new one; clones of older ones live on.
   * @param source an idle VM of the pool, booted cold, that is frozen and so used up; absent: boots a guest for it
   */
  refresh(key: GuestKind, options: { source?: string; signal: AbortSignal }): Promise<PoolTemplate>;
}

/** Pauses a VM so that it costs no CPU. May be repeated. */
export type PausingVms = Pick<VmDriver, 'pause'>;

/** @returns once its agent answers; the template it was cloned from, if any, and the function that detaches from it */
export type PoolBoot = (request: {
  readonly poolVmId: string;
  readonly key: GuestKind;
  readonly from: 'template' | 'cold';
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}) => Promise<{ readonly template?: PoolTemplate; readonly letGo?: () => Promise<void> }>;

/** What a pool can do depends on the driver: the pool works without what is absent. */
export interface PoolMeans {
  /** Absent: the driver cannot pause, and a ready VM runs idly. */
  readonly pausing?: PausingVms;
  /** Absent: every VM boots cold. */
  readonly templates?: PoolTemplates;
  /** Starts a provisioned VM; absent: as it was provisioned. */
  readonly boot?: PoolBoot;
  /** When a template was made, by its id. */
  readonly templateOf?: (templateId: string) => Promise<PoolTemplate | undefined>;
  /** Reports a template from which a guest did not come up. */
  readonly blameTemplate?: (templateId: string, failure: KilnError) => Promise<void>;
}
