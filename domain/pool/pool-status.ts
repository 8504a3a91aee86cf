import type { GuestKind } from '../guest-kind.ts';
import { type PoolReason, type PoolSettings, type PoolVm, RECYCLE_CAUSES, type RecycleCause } from './pool-policy.ts';

/** What a host writes about its pools to `pools/<hostId>.json`. Counters start at 0 with the host worker. */
export interface PoolStatus {
  readonly hostId: string;
  /** ISO 8601, when it was written. */
  readonly at: string;
  /** Whether pools are switched on: `pool_size` is not 0. */
  readonly enabled: boolean;
  readonly settings: PoolSettings;
  /** Sum over all pools, including those that were removed. */
  readonly counters: PoolCounters;
  readonly pools: readonly PoolSummary[];
  /** Frozen guests that VMs of this host are cloned from, with or without a pool. */
  readonly templates?: readonly TemplateSummary[];
}

export interface TemplateSummary extends GuestKind {
  readonly templateId: string;
  readonly image: string;
  readonly createdAt: string;
  readonly lastUsedAt?: string;
  /** Apparent size of its files. */
  readonly bytes: number;
  /** VMs that this host worker has cloned from it. */
  readonly clones: number;
  /** `unverified`: its files are being checked; `superseded`: kept only for VMs that run. */
  readonly state: 'unverified' | 'usable' | 'superseded';
}

/** One pool: VMs of one kind. */
export interface PoolSummary extends GuestKind {
  /** The image name in the configuration; absent where the pool is not configured. */
  readonly image?: string;
  readonly reason: PoolReason;
  /** Number of ready VMs it is filled up to once it has fewer than `lowWater`. */
  readonly target: number;
  readonly lowWater: number;
  readonly ready: number;
  readonly creating: number;
  readonly counters: PoolCounters;
  readonly template?: { readonly templateId: string; readonly createdAt: string };
  readonly vms: readonly PooledVmView[];
}

export interface PoolCounters {
  /** Requests that found a ready VM, that waited for one being made, and that found none. */
  readonly hits: number;
  readonly waits: number;
  readonly misses: number;
  readonly created: number;
  /** VMs that could not be made, or for which the host had no room. */
  readonly failed: number;
  /** VMs destroyed unused, by cause. */
  readonly recycled: Readonly<Partial<Record<RecycleCause, number>>>;
}

export const NO_COUNTS: PoolCounters = { hits: 0, waits: 0, misses: 0, created: 0, failed: 0, recycled: {} };

/** @returns the sum of two sets of counters. */
export function addCounters(a: PoolCounters, b: PoolCounters): PoolCounters {
  const recycled: Partial<Record<RecycleCause, number>> = { ...a.recycled };
  for (const cause of RECYCLE_CAUSES) {
    const sum = (a.recycled[cause] ?? 0) + (b.recycled[cause] ?? 0);
    if (sum > 0) recycled[cause] = sum;
  }
  return {
    hits: a.hits + b.hits,
    waits: a.waits + b.waits,
    misses: a.misses + b.misses,
    created: a.created + b.created,
    failed: a.failed + b.failed,
    recycled,
  };
}

export interface PooledVmView {
  readonly vmId: string;
  readonly state: PoolVm['state'];
  readonly createdAt: string;
  readonly execCount: number;
  /** Absent: it booted cold. */
  readonly templateId?: string;
}
