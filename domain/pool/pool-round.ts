import { KilnError } from '../failures.ts';
import { HOST_ID_PATTERN } from '../names.ts';
import type { PoolCounters, PoolStatus } from './pool-status.ts';

/** What a round of maintenance reports to its workflow: small, because history stores it. */
export interface PoolRound {
  readonly enabled: boolean;
  readonly counters: PoolCounters;
  /** The largest pools; `more` counts those not shown. */
  readonly pools: readonly PoolRoundLine[];
  readonly more: number;
}

export interface PoolRoundLine {
  /** Image and size in words. */
  readonly name: string;
  readonly reason: string;
  readonly ready: number;
  readonly target: number;
  readonly creating: number;
  readonly templateCreatedAt?: string;
}

const SHOWN = 8;
const DIGEST_SHOWN = 19;

/** @returns the part of a pool's status that a workflow keeps. */
export function poolRound({ enabled, counters, pools }: PoolStatus): PoolRound {
  const largest = [...pools].sort((a, b) => b.ready - a.ready).slice(0, SHOWN);
  return {
    enabled,
    counters,
    pools: largest.map(
      ({ image, imageDigest, vcpus, memMib, projectId, reason, ready, target, creating, template }) => ({
        name: `${image ?? imageDigest.slice(0, DIGEST_SHOWN)}, ${vcpus} vCPU, ${memMib} MiB${projectId ? `, ${projectId}` : ''}`,
        reason,
        ready,
        target,
        creating,
        ...(template === undefined ? {} : { templateCreatedAt: template.createdAt }),
      }),
    ),
    more: pools.length - largest.length,
  };
}

/** Start input of the workflow of a host's pool. */
export interface PoolInput {
  readonly hostId: string;
  readonly timings: PoolTimings;
  /** What one execution passes to the next. */
  readonly carried?: PoolProgress;
}

export interface PoolTimings {
  /** Pause between two rounds, ms. */
  readonly everyMs: number;
  /** How long the host may take to begin a round, ms. */
  readonly scheduleToStartMs: number;
  /** Longest round, ms: a round may boot a VM and freeze it. */
  readonly startToCloseMs: number;
  readonly heartbeatMs: number;
  /** A host silent for this long is not asked any more, ms; it starts its workflow again when it is back. */
  readonly lostAfterMs: number;
  /** Rounds after which the workflow continues as new. */
  readonly continueAfter: number;
}

export const DEFAULT_POOL_TIMINGS: PoolTimings = {
  everyMs: 60_000,
  scheduleToStartMs: 10_000,
  startToCloseMs: 180_000,
  heartbeatMs: 15_000,
  lostAfterMs: 600_000,
  continueAfter: 500,
};

/** @throws SPEC_INVALID where the input is invalid: a start by hand, or by another version, may pass anything */
export function assertPoolInput(input: unknown): asserts input is PoolInput {
  const { hostId, timings } = fieldsOf(input);
  if (typeof hostId !== 'string' || !HOST_ID_PATTERN.test(hostId)) throw new KilnError('SPEC_INVALID', 'No host id');
  const given = fieldsOf(timings);
  for (const name of Object.keys(DEFAULT_POOL_TIMINGS)) {
    const value = given[name];
    if (typeof value !== 'number' || !Number.isFinite(value) || value < 1) {
      throw new KilnError('SPEC_INVALID', `timings.${name} must be a number from 1 on`);
    }
  }
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}

/** What the workflow knows of the pool. */
export interface PoolProgress {
  readonly rounds: number;
  readonly last?: PoolRound & { readonly at: string };
  /** Since when the host has not answered, ISO 8601, and why. */
  readonly silent?: { readonly since: string; readonly reason: string };
}
