/** Makes the VMs that pools are short of, a few at a time. */

import { randomBytes } from 'node:crypto';
import { defined } from '../../domain/defined.ts';
import { messageOf } from '../../domain/failures.ts';
import { POOL_VM_PREFIX } from '../../domain/names.ts';
import { decidePool, type PoolSettings, type PoolVm, type RecycleCause } from '../../domain/pool/pool-policy.ts';
import type { HostLogger } from '../host-logger.ts';
import type { PooledVms } from './pool-ports.ts';
import type { PoolState } from './pool-state.ts';

/** Callbacks for metrics. */
export interface PoolNotes {
  noteClaim(result: 'hit' | 'wait' | 'miss', waitedMs: number): void;
  noteCreated(from: 'template' | 'cold' | 'failed', tookMs: number): void;
  noteRecycled(cause: RecycleCause): void;
  noteRefresh(result: 'made' | 'failed'): void;
}

/** Guests that somebody waits for get the machine first; VMs for later requests can wait a moment. */
export interface YieldToBoots {
  /** Whether guests of workloads start on this host now. */
  readonly isStarting: () => boolean;
  /** Longest time that filling pauses for them, ms; afterwards it runs beside them until none starts. */
  readonly maxMs: number;
  /** Pause before the next check whether any starts, ms. */
  readonly lookAgainMs: number;
}

export interface PoolFillingOptions {
  readonly settings: () => PoolSettings;
  readonly pools: ReadonlyMap<string, PoolState>;
  readonly vms: Pick<PooledVms, 'create'>;
  /** Most VMs made at the same time, in all pools together. */
  readonly maxCreating: number;
  /** Pause before VMs are made again after the host was full or a VM could not be made, ms. */
  readonly blockedMs: number;
  /** Absent: filling never pauses for starting guests. */
  readonly yieldToBoots?: YieldToBoots;
  /** Aborts what is being made. */
  readonly ending: AbortSignal;
  readonly logger: HostLogger;
  readonly notes?: PoolNotes;
  readonly now: () => number;
  /** Monotonic ms, to measure how long filling has paused. */
  readonly awake: () => number;
}

export class PoolFilling {
  private readonly options: PoolFillingOptions;
  private givingWaySince: number | undefined;
  private lookingAgain: NodeJS.Timeout | undefined;

  constructor(options: PoolFillingOptions) {
    this.options = options;
  }

  /** Begins what is missing now, or once filling disturbs no starting workload; each end begins the next. */
  refill(): void {
    if (this.givesWay()) return;
    for (const pool of this.options.pools.values()) {
      const { create, from } = decidePool(pool.facts(this.options.settings(), this.options.now()));
      pool.filling = create > 0;
      for (let made = 0; made < create && !this.options.ending.aborted; made++) {
        const making = [...this.options.pools.values()].reduce((sum, { creations }) => sum + creations.size, 0);
        if (making >= this.options.maxCreating) return;
        this.create(pool, from);
      }
    }
  }

  private givesWay(): boolean {
    const { yieldToBoots, awake, ending } = this.options;
    if (yieldToBoots?.isStarting() !== true || ending.aborted) {
      this.givingWaySince = undefined;
      return false;
    }
    this.givingWaySince ??= awake();
    // Also after the longest pause: otherwise nobody would notice the quiet moment after which filling may pause again.
    this.lookingAgain ??= setTimeout(() => {
      this.lookingAgain = undefined;
      this.refill();
    }, yieldToBoots.lookAgainMs);
    return awake() - this.givingWaySince < yieldToBoots.maxMs;
  }

  private create(pool: PoolState, from: 'template' | 'cold'): void {
    const poolVmId = `${POOL_VM_PREFIX}${randomBytes(8).toString('hex')}`;
    const begun = this.options.now();
    pool.vms.set(poolVmId, { poolVmId, state: 'creating', createdAtMs: begun, readySinceMs: begun, execCount: 0 });
    const done = this.options.vms
      .create(pool.key, poolVmId, { from, signal: this.options.ending })
      .then(
        ({ template }) => this.created(pool, poolVmId, template, begun),
        (error: unknown) => this.notCreated(pool, poolVmId, error, begun),
      )
      .then(() => this.refill());
    pool.creations.set(poolVmId, { done, from });
  }

  private created(pool: PoolState, poolVmId: string, template: PoolVm['template'], begun: number): void {
    const handOver = pool.creations.get(poolVmId)?.handOver;
    pool.creations.delete(poolVmId);
    pool.counters.created += 1;
    this.options.notes?.noteCreated(template === undefined ? 'cold' : 'template', this.options.now() - begun);
    const more = { readySinceMs: this.options.now(), ...defined({ template }) };
    handOver?.(pool.move(poolVmId, handOver === undefined ? 'ready' : 'claiming', more));
    if (handOver === undefined) pool.move(poolVmId, 'ready', more);
  }

  private notCreated(pool: PoolState, poolVmId: string, error: unknown, begun: number): void {
    const handOver = pool.creations.get(poolVmId)?.handOver;
    pool.creations.delete(poolVmId);
    pool.vms.delete(poolVmId);
    pool.counters.failed += 1;
    this.options.notes?.noteCreated('failed', this.options.now() - begun);
    this.block(pool);
    if (!this.options.ending.aborted) {
      const reason = messageOf(error);
      this.options.logger.warn({ reason }, 'a VM of the pool could not be made');
    }
    handOver?.(undefined);
  }

  /** Makes no VM for a while. */
  block(pool: PoolState): void {
    pool.block(this.options.blockedMs);
  }

  /** Resolves once nothing is being made. */
  async settled(): Promise<void> {
    for (;;) {
      const making = [...this.options.pools.values()].flatMap(({ creations }) => [...creations.values()]);
      if (making.length === 0) return;
      await Promise.all(making.map(({ done }) => done));
    }
  }
}
