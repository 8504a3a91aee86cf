/**
 * Leases of the VMs of sessions that run: a VM of which neither Temporal nor the head in the store says that it is still
 * the session's own is paused, since another host may have the session by now. It goes on once its word is renewed.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { createKeyedLock } from '../../concurrency/keyed-lock.ts';
import { isKilnError, messageOf } from '../../domain/failures.ts';
import { type Lease, type LeaseWord, leaseStands, leftOf, withWord } from '../../domain/session/lease.ts';
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
  /** The VM runs, or is paused for its lease, as an earlier process of this host has left it. */
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
  /** Whether it was paused for its lease. */
  isHeld: boolean;
  /** Whether there may be a note of that. */
  isMarked: boolean;
  isLookedAt: boolean;
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
  /** What stops guests, or lets them go on, just now. */
  private readonly acts = new Set<Promise<unknown>>();

  constructor(options: SessionLeasesOptions) {
    this.options = options;
  }

  get held(): number {
    return [...this.vms.values()].filter(({ isHeld }) => isHeld).length;
  }

  found(vmId: string): Promise<void> {
    const { clock, leaseMs, lookMs } = this.options;
    // Nobody has asked yet: until the first look, and no longer.
    return this.lock.run(vmId, () => this.begin(vmId, clock() - leaseMs + lookMs));
  }

  begun(vmId: string): void {
    const now = this.options.clock();
    this.lock
      .run(vmId, () => this.begin(vmId, now))
      .catch((error: unknown) => {
        this.options.logger.warn({ vmId, reason: messageOf(error) }, 'a VM runs without a lease until its next call');
      });
  }

  async called(vmId: string): Promise<void> {
    const calledAtMs = this.options.clock();
    await this.lock.run(vmId, async () => {
      await this.begin(vmId, calledAtMs);
      const vm = this.vms.get(vmId);
      // A call may have been on its way for long: where another has the session, only a newer word counts.
      if (vm === undefined || vm.lease.isAnothers) return;
      vm.lease = withWord(vm.lease, 'ours', calledAtMs);
      if (vm.isHeld) await this.letGoOn(vmId, vm);
    });
  }

  atRest<T>(vmId: string, pause: () => Promise<T>): Promise<T> {
    return this.lock.run(vmId, async () => {
      // Before the pause: whoever finds the note and a paused guest lets that go on.
      const vm = this.vms.get(vmId);
      if (vm !== undefined) await this.unmark(vmId, vm);
      const done = await pause();
      this.vms.delete(vmId);
      return done;
    });
  }

  awake<T>(vmId: string, resume: () => Promise<T>): Promise<T> {
    const provenAtMs = this.options.clock();
    return this.lock.run(vmId, async () => {
      // Before the resume, as before a rest: the session decides about its guest from here on.
      const known = this.vms.get(vmId);
      if (known !== undefined) await this.unmark(vmId, known);
      const owner = await this.options.ownerOf(vmId);
      const lease = { provenAtMs, isAnothers: false };
      // Before the resume: a guest may run although its resume has failed.
      if (owner?.role === 'session') this.vms.set(vmId, { ...NEW, owner, lease });
      try {
        return await resume();
      } catch (error) {
        const isRunning = !saysGone(error) && (await this.options.status(vmId)).state === 'running';
        if (!isRunning) this.vms.delete(vmId);
        throw error;
      }
    });
  }

  stands(vmId: string): boolean {
    const vm = this.vms.get(vmId);
    return vm === undefined || (!vm.isHeld && this.hasLease(vm));
  }

  async look(): Promise<void> {
    await Promise.all(
      [...this.vms].map(async ([vmId, vm]) => {
        // One that does not answer must not hold up the others.
        if (vm.isLookedAt) return;
        vm.isLookedAt = true;
        await this.lookAt(vmId, vm)
          .catch((error: unknown) => {
            this.options.logger.warn({ vmId, reason: messageOf(error) }, 'the lease of a VM could not be looked after');
          })
          .finally(() => {
            vm.isLookedAt = false;
          });
      }),
    );
  }

  start(): void {
    void this.look();
    this.timer = setInterval(() => void this.look(), this.options.lookMs);
  }

  async stop(): Promise<void> {
    clearInterval(this.timer);
    this.vms.clear();
    await Promise.allSettled(this.acts);
  }

  private hasLease({ lease }: LeasedVm): boolean {
    return leaseStands(lease, this.options.clock(), this.options.leaseMs);
  }

  private async begin(vmId: string, provenAtMs: number): Promise<void> {
    const owner = await this.options.ownerOf(vmId);
    const known = this.vms.get(vmId);
    if (known !== undefined && owner !== undefined && sameOwner(known.owner, owner)) return;
    this.vms.delete(vmId);
    if (owner?.role !== 'session') return;
    const { state } = await this.options.status(vmId);
    const isMarked = await this.options.marks.has(vmId);
    const isHeld = isMarked && state === 'paused';
    // A VM that rests needs none.
    if (!isHeld && state !== 'running') return;
    this.vms.set(vmId, { ...NEW, owner, lease: { provenAtMs, isAnothers: false }, isHeld, isMarked });
  }

  private async lookAt(vmId: string, vm: LeasedVm): Promise<void> {
    if (!(await this.isStillThere(vmId, vm))) return this.forget(vmId, vm);
    // After a sleep of the machine, or a process that was stopped: it must not act until there is an answer.
    if (!this.hasLease(vm)) await this.hold(vmId, vm);
    const askedAtMs = this.options.clock();
    vm.lease = withWord(vm.lease, await this.wordOn(vmId, vm), askedAtMs);
    if (!this.hasLease(vm)) return this.hold(vmId, vm);
    if (!vm.isHeld) return;
    await this.act(vmId, async () => {
      if (this.vms.get(vmId) === vm && vm.isHeld) await this.letGoOn(vmId, vm);
    });
  }

  /** Where the answer takes longer than the lease, the VM does not run until it is there. */
  private async wordOn(vmId: string, vm: LeasedVm): Promise<LeaseWord> {
    const word = this.options.ask(vm.owner);
    const answered = new AbortController();
    const leftMs = Math.max(0, leftOf(vm.lease, this.options.clock(), this.options.leaseMs)) + CLOCK_STEP_MS;
    const late = delay(leftMs, 'late' as const, { signal: answered.signal, ref: false }).catch(() => 'late' as const);
    const first = await Promise.race([word, late]);
    answered.abort();
    if (first === 'late') await this.hold(vmId, vm);
    return word;
  }

  /** It may have been released since; then another VM may even have its name. */
  private async isStillThere(vmId: string, vm: LeasedVm): Promise<boolean> {
    const owner = await this.options.ownerOf(vmId);
    return owner !== undefined && sameOwner(owner, vm.owner);
  }

  private forget(vmId: string, vm: LeasedVm): void {
    if (this.vms.get(vmId) === vm) this.vms.delete(vmId);
  }

  private async act(vmId: string, work: () => Promise<void>): Promise<void> {
    const acting = this.lock.run(vmId, work);
    this.acts.add(acting);
    await acting.finally(() => this.acts.delete(acting));
  }

  private hold(vmId: string, vm: LeasedVm): Promise<void> {
    return this.act(vmId, async () => {
      if (this.vms.get(vmId) !== vm || vm.isHeld || this.hasLease(vm)) return;
      if (!(await this.isStillThere(vmId, vm))) return this.forget(vmId, vm);
      try {
        // Before the pause: a later process of this host would take a guest that is paused for one that rests.
        vm.isMarked = true;
        await this.options.marks.set(vmId);
        await this.options.pause(vmId);
        vm.isHeld = true;
        const why = vm.lease.isAnothers
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
      await this.unmark(vmId, vm);
      this.options.logger.info({ vmId, workflowId: vm.owner.workflowId }, 'the VM of a session goes on');
    } catch (error) {
      if (saysGone(error)) return this.forget(vmId, vm);
      // It may run although it has not answered.
      vm.isHeld = (await this.options.status(vmId)).state !== 'running';
      throw error;
    }
  }

  private async unmark(vmId: string, vm: LeasedVm): Promise<void> {
    if (!vm.isMarked) return;
    await this.options.marks.clear(vmId);
    vm.isMarked = false;
  }
}

/** The clock goes in steps; after so long it has come to the next one, ms. */
const CLOCK_STEP_MS = 20;

const NEW = { isHeld: false, isMarked: false, isLookedAt: false };

function saysGone(error: unknown): boolean {
  return isKilnError(error, 'NOT_FOUND', 'VMM_EXITED', 'GUEST_CRASHED');
}
