/** The pools of one host: booted, paused VMs without an owner, so that a workload need not wait for a boot. */
import { eitherSignal } from '../../concurrency/deadline.ts';
import { defined } from '../../domain/defined.ts';
import { isKilnError, messageOf } from '../../domain/failures.ts';
import { type GuestKind, guestKindKey } from '../../domain/guest-kind.ts';
import {
  chooseClaim,
  chooseYield,
  decidePool,
  type PoolDecision,
  type PoolSettings,
  type PoolVm,
  type RecycleCause,
} from '../../domain/pool/pool-policy.ts';
import { addCounters, NO_COUNTS, type PoolCounters, type PoolStatus } from '../../domain/pool/pool-status.ts';
import type { VmOwner } from '../../domain/vm.ts';
import type { HostLogger } from '../host-logger.ts';
import { PoolFilling, type PoolNotes, type YieldToBoots } from './pool-filling.ts';
import type { PooledVms, PoolTemplates } from './pool-ports.ts';
import { type Creation, PoolState } from './pool-state.ts';

/** A pool that exists whether or not anybody has asked for a VM yet. */
export interface WarmPool extends Pick<GuestKind, 'vcpus' | 'memMib' | 'projectId'> {
  /** Image reference; where its tag moves, the pool follows. */
  readonly image: string;
}

export interface VmPoolOptions {
  readonly hostId: string;
  readonly settings: PoolSettings;
  readonly warm: readonly WarmPool[];
  readonly vms: PooledVms;
  /** Absent: every VM boots cold. */
  readonly templates?: PoolTemplates;
  /** @returns the digest that a reference points to now */
  readonly resolveImage: (reference: string) => Promise<string>;
  /** How long a request waits for a VM that is already being made; 0: not at all. */
  readonly claimWaitMs: number;
  /** Most VMs made at the same time, in all pools together. */
  readonly maxCreating: number;
  /** Absent: missing VMs are made at once, whatever else the host does. */
  readonly yieldToBoots?: YieldToBoots;
  /** Pause before VMs are made again after the host was full or a VM could not be made, ms. */
  readonly blockedMs: number;
  readonly logger: HostLogger;
  readonly notes?: PoolNotes;
  readonly now?: () => number;
  /** Default: the monotonic clock. */
  readonly awake?: () => number;
}

export interface VmPool {
  readonly enabled: boolean;
  /** Takes over or destroys what an earlier process left. Call it before anything else, and before the first sweep. */
  start(): Promise<void>;
  /**
   * Hands out a VM under another name, if there is one.
   * @param signal ends a wait for a VM that is being made
   * @returns whether `vmId` exists now. @throws CONFLICT where that name belongs to another owner
   */
  take(key: GuestKind, to: { vmId: string; owner: VmOwner }, signal?: AbortSignal): Promise<boolean>;
  /** One round: looks up images, makes templates, recycles and makes VMs. A call during a round shares that round. */
  maintain(signal?: AbortSignal): Promise<PoolStatus>;
  /** Destroys the least wanted ready VM. @returns false where there is none */
  yieldToBoots(): Promise<boolean>;
  /** true: the host takes no new work, so the next round drains the pools; false: the next round fills them again. */
  rest(resting: boolean): void;
  /** Whether the pool holds, makes or destroys a VM of that name. */
  owns(poolVmId: string): boolean;
  status(): PoolStatus;
  /** Resolves once nothing is being made. */
  settled(): Promise<void>;
  /** Stops making VMs; ready VMs stay for the next process. */
  stop(): Promise<void>;
}

/** @returns the pools of a host; nothing happens until `start`. */
export function createVmPool(options: VmPoolOptions): VmPool {
  return new HostVmPool(options);
}

class HostVmPool implements VmPool {
  readonly enabled: boolean;
  private readonly options: VmPoolOptions;
  private readonly pools = new Map<string, PoolState>();
  private readonly ending = new AbortController();
  private resting = false;
  private readonly filling: PoolFilling;
  private readonly now: () => number;
  private readonly awake: () => number;
  /** Sum of the counters of pools that this process has forgotten. */
  private forgotten: PoolCounters = NO_COUNTS;
  private maintaining: Promise<PoolStatus> | undefined;

  constructor(options: VmPoolOptions) {
    const { settings, templates } = options;
    const snapshots = { ...settings.snapshots, enabled: settings.snapshots.enabled && templates !== undefined };
    this.options = { ...options, settings: { ...settings, snapshots } };
    this.enabled = settings.pool_size > 0;
    this.now = options.now ?? Date.now;
    this.awake = options.awake ?? (() => performance.now());
    this.filling = new PoolFilling({
      ...this.options,
      settings: () => this.settings(),
      pools: this.pools,
      ending: this.ending.signal,
      now: this.now,
      awake: this.awake,
    });
  }

  async start(): Promise<void> {
    for (const { poolVmId, key, createdAtMs, template, state } of await this.options.vms.list()) {
      const pool = this.poolOf(key);
      pool.vms.set(poolVmId, {
        poolVmId,
        state: 'ready',
        createdAtMs,
        readySinceMs: this.now(),
        execCount: 0,
        ...defined({ template }),
      });
      if (state === 'broken' || !this.enabled) await this.recycle(pool, poolVmId, this.enabled ? 'gone' : 'unused');
    }
  }

  async take(key: GuestKind, to: { vmId: string; owner: VmOwner }, signal?: AbortSignal): Promise<boolean> {
    if (!this.enabled || this.ending.signal.aborted) return false;
    const pool = this.poolOf(key);
    const begun = this.now();
    pool.noteRequest(begun);
    // A new pool need not boot cold until the next round if others have already made a template.
    if (pool.template === undefined) await this.lookUpTemplate(pool);
    const result = (await this.claimReady(pool, to))
      ? 'hit'
      : (await this.claimComing(pool, to, signal))
        ? 'wait'
        : 'miss';
    if (result === 'miss') pool.noteMiss(begun);
    pool.counters[result === 'hit' ? 'hits' : result === 'wait' ? 'waits' : 'misses'] += 1;
    this.options.notes?.noteClaim(result, this.now() - begun);
    this.filling.refill();
    return result !== 'miss';
  }

  maintain(signal?: AbortSignal): Promise<PoolStatus> {
    this.maintaining ??= this.maintainNow(signal).finally(() => {
      this.maintaining = undefined;
    });
    return this.maintaining;
  }

  async yieldToBoots(): Promise<boolean> {
    const { settings } = this.options;
    const candidates = [...this.pools.values()].flatMap((pool) => {
      const { vms, reason } = pool.facts(this.settings(), this.now());
      const ready = vms.filter(({ state }) => state === 'ready');
      const surplus = ready.length - settings.min_idle;
      return ready.map(({ poolVmId, readySinceMs }) => ({ poolVmId, reason, surplus, readySinceMs }));
    });
    const chosen = chooseYield(candidates);
    const pool = [...this.pools.values()].find(({ vms }) => chosen !== undefined && vms.has(chosen));
    if (chosen === undefined || pool === undefined) return false;
    // A full host has no room for new VMs either.
    for (const each of this.pools.values()) this.filling.block(each);
    return this.recycle(pool, chosen, 'capacity');
  }

  rest(resting: boolean): void {
    this.resting = resting;
  }

  owns(poolVmId: string): boolean {
    return [...this.pools.values()].some(({ vms }) => vms.has(poolVmId));
  }

  status(): PoolStatus {
    const { hostId, settings } = this.options;
    const nowMs = this.now();
    const pools = [...this.pools.values()].map((pool) => pool.summary(settings, nowMs));
    const counters = pools.reduce((sum, pool) => addCounters(sum, pool.counters), this.forgotten);
    return { hostId, at: new Date(nowMs).toISOString(), enabled: this.enabled, settings, counters, pools };
  }

  settled(): Promise<void> {
    return this.filling.settled();
  }

  async stop(): Promise<void> {
    this.ending.abort(new Error('the host worker ends'));
    await this.maintaining?.catch(() => undefined);
    await this.settled();
  }

  private settings(): PoolSettings {
    const { settings } = this.options;
    return this.resting ? { ...settings, pool_size: 0, min_idle: 0 } : settings;
  }

  private poolOf(key: GuestKind): PoolState {
    const text = guestKindKey(key);
    const pool = this.pools.get(text) ?? new PoolState(key, this.awake);
    this.pools.set(text, pool);
    return pool;
  }

  private async claimReady(pool: PoolState, to: { vmId: string; owner: VmOwner }): Promise<boolean> {
    for (;;) {
      const vm = chooseClaim(pool.facts(this.settings(), this.now()));
      if (vm === undefined) return false;
      pool.move(vm.poolVmId, 'claiming');
      const claimed = await this.claim(pool, vm.poolVmId, to);
      if (claimed !== 'gone') return claimed === 'claimed';
    }
  }

  private async claim(
    pool: PoolState,
    poolVmId: string,
    to: { vmId: string; owner: VmOwner },
  ): Promise<'claimed' | 'gone' | 'failed'> {
    try {
      if (await this.options.vms.claim(poolVmId, to)) {
        pool.vms.delete(poolVmId);
        return 'claimed';
      }
      await this.recycle(pool, poolVmId, 'gone');
      return 'gone';
    } catch (error) {
      this.warn(`VM ${poolVmId} could not be handed out`, error);
      // The VM may be half handed over: destroy what is left of it; the workload gets a VM of its own.
      await this.recycle(pool, poolVmId, 'failed');
      if (isKilnError(error, 'CONFLICT')) throw error;
      return 'failed';
    }
  }

  /** A VM that is already being made is ready sooner than one that starts now. */
  private async claimComing(
    pool: PoolState,
    to: { vmId: string; owner: VmOwner },
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    // Except one that boots cold when a new VM could be cloned.
    const isSooner = ({ from }: Creation) => from === 'template' || pool.template === undefined;
    const creation = [...pool.creations.values()].find((each) => each.handOver === undefined && isSooner(each));
    if (creation === undefined || this.options.claimWaitMs <= 0 || signal?.aborted === true) return false;
    const coming = Promise.withResolvers<PoolVm | undefined>();
    const giveUp = () => {
      delete creation.handOver;
      coming.resolve(undefined);
    };
    creation.handOver = coming.resolve;
    const timer = setTimeout(giveUp, this.options.claimWaitMs);
    signal?.addEventListener('abort', giveUp, { once: true });
    const vm = await coming.promise;
    clearTimeout(timer);
    signal?.removeEventListener('abort', giveUp);
    return vm !== undefined && (await this.claim(pool, vm.poolVmId, to)) === 'claimed';
  }

  private async maintainNow(signal?: AbortSignal): Promise<PoolStatus> {
    if (!this.enabled) return this.status();
    const ending = eitherSignal(this.ending.signal, signal);
    // Otherwise the refill after a restart would boot cold although good templates exist.
    await this.options.templates?.ready?.();
    await this.lookUpImages();
    await this.recycleBroken();
    for (const [text, pool] of this.pools) {
      if (ending.aborted) break;
      await this.maintainPool(pool, ending);
      if (!pool.isEmpty(this.settings(), this.now())) continue;
      this.pools.delete(text);
      this.forgotten = addCounters(this.forgotten, pool.counters);
    }
    return this.status();
  }

  /** A reference that cannot be looked up now keeps its image; after a restart, every image that it may have had. */
  private async lookUpImages(): Promise<void> {
    for (const { image, ...size } of this.options.warm) {
      try {
        const pool = this.poolOf({ ...size, imageDigest: await this.options.resolveImage(image) });
        for (const other of this.pools.values()) {
          if (other === pool || other.image !== image || !sameSize(other.key, size)) continue;
          other.image = undefined;
          other.superseded = true;
        }
        pool.image = image;
        pool.superseded = false;
      } catch (error) {
        this.warn(`the image ${image} of a pool cannot be looked up now`, error);
        for (const pool of this.pools.values()) {
          if (pool.image === undefined && !pool.superseded && sameSize(pool.key, size)) pool.image = image;
        }
      }
    }
  }

  /** VMs that ended by themselves while they waited. */
  private async recycleBroken(): Promise<void> {
    for (const { poolVmId, key, state } of await this.options.vms.list()) {
      const pool = this.pools.get(guestKindKey(key));
      if (state === 'broken' && pool?.vms.get(poolVmId)?.state === 'ready') await this.recycle(pool, poolVmId, 'gone');
    }
  }

  private async lookUpTemplate(pool: PoolState): Promise<void> {
    try {
      pool.template = await this.options.templates?.newest(pool.key);
    } catch (error) {
      this.warn('the templates of a pool cannot be read now', error);
    }
  }

  private async maintainPool(pool: PoolState, signal: AbortSignal): Promise<void> {
    await this.lookUpTemplate(pool);
    const decision = decidePool(pool.facts(this.settings(), this.now()));
    for (const { poolVmId, cause } of decision.recycle) await this.recycle(pool, poolVmId, cause);
    if (decision.refresh !== undefined) await this.refresh(pool, decision.refresh, signal);
    this.filling.refill();
  }

  private async refresh(
    pool: PoolState,
    { source }: NonNullable<PoolDecision['refresh']>,
    signal: AbortSignal,
  ): Promise<void> {
    const { templates, notes } = this.options;
    // It was handed out meanwhile, so it is no longer idle.
    if (templates === undefined || (source !== undefined && pool.vms.get(source)?.state !== 'ready')) return;
    if (source !== undefined) pool.move(source, 'leaving');
    pool.refreshing = true;
    try {
      pool.template = await templates.refresh(pool.key, { ...defined({ source }), signal });
      notes?.noteRefresh('made');
    } catch (error) {
      notes?.noteRefresh('failed');
      this.filling.block(pool);
      this.warn('a template could not be made', error);
    } finally {
      pool.refreshing = false;
      if (source !== undefined) await this.destroy(pool, source);
    }
  }

  private async recycle(pool: PoolState, poolVmId: string, cause: RecycleCause): Promise<boolean> {
    const { state } = pool.vms.get(poolVmId) ?? { state: 'leaving' };
    // Since that decision the VM was handed out, or its removal began.
    if (state === 'leaving' || (state === 'claiming' && cause !== 'gone' && cause !== 'failed')) return false;
    pool.move(poolVmId, 'leaving');
    pool.noteRecycled(cause);
    this.options.notes?.noteRecycled(cause);
    return this.destroy(pool, poolVmId);
  }

  /** A VM that cannot be destroyed no longer belongs to the pool: the sweep takes over. */
  private async destroy(pool: PoolState, poolVmId: string): Promise<boolean> {
    try {
      await this.options.vms.destroy(poolVmId);
      return true;
    } catch (error) {
      this.warn(`VM ${poolVmId} of the pool could not be destroyed; the sweep will`, error);
      return false;
    } finally {
      pool.vms.delete(poolVmId);
    }
  }

  private warn(message: string, error: unknown): void {
    const reason = messageOf(error);
    this.options.logger.warn({ reason }, message);
  }
}

function sameSize(key: GuestKind, size: Omit<WarmPool, 'image'>): boolean {
  return key.vcpus === size.vcpus && key.memMib === size.memMib && key.projectId === size.projectId;
}
