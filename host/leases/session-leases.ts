/**
 * Leases of the VMs of sessions that run: a VM of which neither Temporal nor the head in the store says that it is still
 * the session's own is paused, since another host may have the session by now. It goes on once its word is renewed.
 */
import { createKeyedLock } from '../../concurrency/keyed-lock.ts';
import { isKilnError, messageOf } from '../../domain/failures.ts';
import { type Lease, type LeaseWord, leaseStands, withWord } from '../../domain/session/lease.ts';
import { sameOwner, type VmOwner, type VmStatus } from '../../domain/vm.ts';
import type { HostLogger } from '../host-logger.ts';

export interface LeaseSettings {
  /** How long a VM may run after the last word that it is its session's own, ms. */
  readonly leaseMs: number;
  /** Pause between two looks, ms. */
  readonly lookMs: number;
}

export interface SessionLeasesOptions extends LeaseSettings {
  readonly ownerOf: (vmId: string) => Promise<VmOwner | undefined>;
  readonly status: (vmId: string) => Promise<VmStatus>;
  readonly ask: (owner: VmOwner) => Promise<LeaseWord>;
  readonly pause: (vmId: string) => Promise<void>;
  readonly resume: (vmId: string) => Promise<void>;
  /** Whether a VM is paused for its lease, kept where a later process of this host finds it. */
  readonly marks: {
    has(vmId: string): Promise<boolean>;
    set(vmId: string): Promise<void>;
    clear(vmId: string): Promise<void>;
  };
  /** Goes on while the machine sleeps, ms. */
  readonly clock: () => number;
  readonly logger: HostLogger;
}

export interface SessionLeases {
  /** The VM runs, or is paused for its lease: as an earlier process of this host has left it, or after its boot. */
  found(vmId: string): Promise<void>;
  /** The VM has just been started. */
  begun(vmId: string): void;
  /** A call of the session's workflow for this VM has begun just now; where the VM is paused for its lease, it goes on. */
  called(vmId: string): Promise<void>;
  /** Stops the guest because its session wants that: from then on it needs no lease. */
  atRest<T>(vmId: string, pause: () => Promise<T>): Promise<T>;
  /** Lets the guest go on because its session has just asked for that. */
  awake<T>(vmId: string, resume: () => Promise<T>): Promise<T>;
  /** Whether the guest may act. True of a VM that needs no lease. */
  stands(vmId: string): boolean;
  /** Asks about every VM once. */
  look(): Promise<void>;
  /** VMs that are paused for their leases. */
  readonly held: number;
  start(): void;
  stop(): Promise<void>;
}

interface LeasedVm {
  readonly owner: VmOwner;
  lease: Lease;
  isHeld: boolean;
}

export function createSessionLeases(options: SessionLeasesOptions): SessionLeases {
  return new Leases(options);
}

class Leases implements SessionLeases {
  private readonly options: SessionLeasesOptions;
  private readonly vms = new Map<string, LeasedVm>();
  /** One at a time stops a VM or lets it go on. */
  private readonly lock = createKeyedLock();
  private timer: NodeJS.Timeout | undefined;
  private looking: Promise<void> = Promise.resolve();

  constructor(options: SessionLeasesOptions) {
    this.options = options;
  }

  get held(): number {
    return [...this.vms.values()].filter(({ isHeld }) => isHeld).length;
  }

  found(vmId: string): Promise<void> {
    return this.lock.run(vmId, () => this.begin(vmId));
  }

  begun(vmId: string): void {
    this.found(vmId).catch((error: unknown) => {
      this.options.logger.warn({ vmId, reason: messageOf(error) }, 'a VM runs without a lease until its next call');
    });
  }

  async called(vmId: string): Promise<void> {
    const calledAtMs = this.options.clock();
    await this.lock.run(vmId, async () => {
      await this.begin(vmId);
      const vm = this.vms.get(vmId);
      if (vm === undefined || vm.lease.isOver) return;
      vm.lease = withWord(vm.lease, 'ours', calledAtMs);
      if (vm.isHeld) await this.letGoOn(vmId, vm);
    });
  }

  atRest<T>(vmId: string, pause: () => Promise<T>): Promise<T> {
    return this.lock.run(vmId, async () => {
      const done = await pause();
      await this.end(vmId);
      return done;
    });
  }

  awake<T>(vmId: string, resume: () => Promise<T>): Promise<T> {
    const askedAtMs = this.options.clock();
    return this.lock.run(vmId, async () => {
      const done = await resume();
      await this.end(vmId);
      await this.begin(vmId, askedAtMs);
      return done;
    });
  }

  stands(vmId: string): boolean {
    const vm = this.vms.get(vmId);
    if (vm === undefined) return true;
    return !vm.isHeld && leaseStands(vm.lease, this.options.clock(), this.options.leaseMs);
  }

  async look(): Promise<void> {
    await Promise.all(
      [...this.vms].map(([vmId, vm]) =>
        this.lookAt(vmId, vm).catch((error: unknown) => {
          this.options.logger.warn({ vmId, reason: messageOf(error) }, 'the lease of a VM could not be looked after');
        }),
      ),
    );
  }

  start(): void {
    const { lookMs } = this.options;
    const next = () => {
      this.looking = this.look();
      void this.looking.then(() => {
        if (this.timer !== undefined) this.timer = setTimeout(next, lookMs);
      });
    };
    this.timer = setTimeout(next, lookMs);
  }

  async stop(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    await this.looking;
  }

  private async begin(vmId: string, provenAtMs: number = this.options.clock()): Promise<void> {
    const owner = await this.options.ownerOf(vmId);
    const known = this.vms.get(vmId);
    if (known !== undefined && owner !== undefined && sameOwner(known.owner, owner)) return;
    this.vms.delete(vmId);
    if (owner?.role !== 'session') return;
    const isHeld = await this.options.marks.has(vmId);
    // A VM that rests needs none.
    if (!isHeld && (await this.options.status(vmId)).state !== 'running') return;
    this.vms.set(vmId, { owner, lease: { provenAtMs, isOver: false }, isHeld });
  }

  private async end(vmId: string): Promise<void> {
    if (this.vms.get(vmId)?.isHeld === true) await this.options.marks.clear(vmId);
    this.vms.delete(vmId);
  }

  private async lookAt(vmId: string, vm: LeasedVm): Promise<void> {
    if (!(await this.isStillThere(vmId, vm))) return this.forget(vmId, vm);
    const askedAtMs = this.options.clock();
    const isLate = !leaseStands(vm.lease, askedAtMs, this.options.leaseMs);
    // After a sleep of the machine, or a process that was stopped: it must not act until there is an answer.
    if (isLate) await this.hold(vmId, vm);
    const word = await this.options.ask(vm.owner);
    vm.lease = withWord(vm.lease, word, askedAtMs);
    if (!leaseStands(vm.lease, this.options.clock(), this.options.leaseMs)) return this.hold(vmId, vm);
    if (!vm.isHeld) return;
    await this.lock.run(vmId, async () => {
      if (this.vms.get(vmId) === vm && vm.isHeld) await this.letGoOn(vmId, vm);
    });
  }

  /** It may have been released since; then another VM may even have its name. */
  private async isStillThere(vmId: string, vm: LeasedVm): Promise<boolean> {
    const owner = await this.options.ownerOf(vmId);
    return owner !== undefined && sameOwner(owner, vm.owner);
  }

  private forget(vmId: string, vm: LeasedVm): void {
    if (this.vms.get(vmId) === vm) this.vms.delete(vmId);
  }

  private hold(vmId: string, vm: LeasedVm): Promise<void> {
    return this.lock.run(vmId, async () => {
      if (this.vms.get(vmId) !== vm || vm.isHeld) return;
      if (leaseStands(vm.lease, this.options.clock(), this.options.leaseMs)) return;
      if (!(await this.isStillThere(vmId, vm))) return this.forget(vmId, vm);
      try {
        // Before the pause: a process that ends in between lets the VM go on at its next start.
        await this.options.marks.set(vmId);
        await this.options.pause(vmId);
        vm.isHeld = true;
        const why = vm.lease.isOver
          ? 'its session is over, or placed anew'
          : 'nobody confirms that it is still its own';
        this.options.logger.warn({ vmId, workflowId: vm.owner.workflowId }, `the VM of a session is paused: ${why}`);
      } catch (error) {
        if (!saysGone(error)) throw error;
        this.forget(vmId, vm);
      }
    });
  }

  private async letGoOn(vmId: string, vm: LeasedVm): Promise<void> {
    try {
      await this.options.resume(vmId);
      vm.isHeld = false;
      await this.options.marks.clear(vmId);
      this.options.logger.info({ vmId, workflowId: vm.owner.workflowId }, 'the VM of a session goes on');
    } catch (error) {
      if (!saysGone(error)) throw error;
      this.forget(vmId, vm);
    }
  }
}

function saysGone(error: unknown): boolean {
  return isKilnError(error, 'NOT_FOUND', 'VMM_EXITED', 'GUEST_CRASHED');
}
