import { defined } from '../../domain/defined.ts';
import type { GuestKind } from '../../domain/guest-kind.ts';
import {
  lowWaterMark,
  type PoolFacts,
  type PoolReason,
  type PoolSettings,
  type PoolTemplate,
  type PoolVm,
  poolReason,
  poolTarget,
  type RecycleCause,
} from '../../domain/pool/pool-policy.ts';
import type { PoolCounters, PoolSummary } from '../../domain/pool/pool-status.ts';

/** Most requests remembered for one pool; more would not change a decision. */
const MAX_REMEMBERED = 1000;

/** A VM that is being made. If a request waits for it, that request gets it as soon as it is ready. */
export interface Creation {
  readonly done: Promise<void>;
  readonly from: 'template' | 'cold';
  /** Called with the VM, or with undefined where it could not be made. */
  handOver?: (vm: PoolVm | undefined) => void;
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

/** What this process knows of one pool. Its VMs are on disk as well; the rest may be lost. */
export class PoolState {
  readonly key: GuestKind;
  readonly vms = new Map<string, PoolVm>();
  readonly creations = new Map<string, Creation>();
  readonly counters: Mutable<PoolCounters> & { recycled: Partial<Record<RecycleCause, number>> } = {
    hits: 0,
    waits: 0,
    misses: 0,
    created: 0,
    failed: 0,
    recycled: {},
  };
  /** The image reference in the configuration, while the pool belongs to it. */
  image: string | undefined;
  superseded = false;
  template: PoolTemplate | undefined;
  refreshing = false;
  filling = false;
  private requests: number[] = [];
  private missed: number[] = [];
  private readonly awake: () => number;
  /** Monotonic ms: a wall clock that is set back must not turn a pause of seconds into hours. */
  private blockedUntil = Number.NEGATIVE_INFINITY;

  /** @param awake monotonic ms */
  constructor(key: GuestKind, awake: () => number) {
    this.key = key;
    this.awake = awake;
  }

  /** Makes no VM for this time. */
  block(ms: number): void {
    this.blockedUntil = this.awake() + ms;
  }

  noteRequest(nowMs: number): void {
    this.requests = [...this.requests, nowMs].slice(-MAX_REMEMBERED);
  }

  noteMiss(nowMs: number): void {
    this.missed = [...this.missed, nowMs].slice(-MAX_REMEMBERED);
  }

  noteRecycled(cause: RecycleCause): void {
    this.counters.recycled[cause] = (this.counters.recycled[cause] ?? 0) + 1;
  }

  /** Changes the state of a VM, if it still exists. @returns the VM */
  move(poolVmId: string, state: PoolVm['state'], more: Partial<PoolVm> = {}): PoolVm | undefined {
    const vm = this.vms.get(poolVmId);
    if (vm === undefined) return undefined;
    const moved = { ...vm, ...more, state };
    this.vms.set(poolVmId, moved);
    return moved;
  }

  facts(settings: PoolSettings, nowMs: number): PoolFacts {
    const since = nowMs - settings.max_idle_time;
    this.requests = this.requests.filter((at) => at > since);
    this.missed = this.missed.filter((at) => at > since);
    return {
      nowMs,
      settings,
      reason: this.reason(),
      vms: [...this.vms.values()],
      recentRequests: this.requests.length,
      recentMisses: this.missed.length,
      ...defined({ template: this.template }),
      refreshing: this.refreshing,
      filling: this.filling,
      blockedUntilMs: nowMs + Math.max(0, this.blockedUntil - this.awake()),
    };
  }

  private reason(): PoolReason {
    return poolReason({
      standing: this.image !== undefined,
      superseded: this.superseded,
      recentRequests: this.requests.length,
    });
  }

  summary(settings: PoolSettings, nowMs: number): PoolSummary {
    const facts = this.facts(settings, nowMs);
    const count = (state: PoolVm['state']) => facts.vms.filter((vm) => vm.state === state).length;
    return {
      ...defined({ image: this.image }),
      ...this.key,
      reason: facts.reason,
      target: poolTarget(facts),
      lowWater: lowWaterMark(facts),
      ready: count('ready'),
      creating: count('creating'),
      counters: { ...this.counters, recycled: { ...this.counters.recycled } },
      ...(this.template === undefined
        ? {}
        : { template: { templateId: this.template.templateId, createdAt: isoTime(this.template.createdAtMs) } }),
      vms: facts.vms.map(({ poolVmId, state, createdAtMs, execCount, template }) => ({
        vmId: poolVmId,
        state,
        createdAt: isoTime(createdAtMs),
        execCount,
        ...(template === undefined ? {} : { templateId: template.templateId }),
      })),
    };
  }

  /** Whether it can be forgotten without loss. */
  isEmpty(settings: PoolSettings, nowMs: number): boolean {
    const { reason, recentRequests, vms } = this.facts(settings, nowMs);
    return reason !== 'standing' && recentRequests === 0 && vms.length === 0 && !this.refreshing;
  }
}

function isoTime(ms: number): string {
  return new Date(ms).toISOString();
}
