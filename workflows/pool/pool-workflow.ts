import {
  ActivityCancellationType,
  condition,
  continueAsNew,
  isCancellation,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import type { PoolActivities } from '../../activities/pool/pool-types.ts';
import { hostQueue } from '../../domain/names.ts';
import { assertPoolInput, type PoolInput, type PoolProgress } from '../../domain/pool/pool-round.ts';
import { judge } from '../activity-verdict.ts';
import { guardInput } from '../input-guard.ts';
import { maintainSignal, poolQuery } from '../messages.ts';
import { setAttributes } from '../search-attributes.ts';
import { poolDetails } from './pool-details.ts';

export type PoolEnd = 'switched off' | 'host silent';

/**
 * Keeps the pool of one host in order: a round of maintenance at each interval, and at once on a signal. Ends when the
 * pool is switched off or its host is silent for long; a host worker starts it again when it starts. It holds nothing:
 * the next round makes up for a lost one.
 */
export async function poolWorkflow(input: PoolInput): Promise<PoolEnd> {
  guardInput(() => assertPoolInput(input));
  const { hostId, timings } = input;
  let progress: PoolProgress = input.carried ?? { rounds: 0 };
  let woken = false;
  setHandler(maintainSignal, () => {
    woken = true;
  });
  setHandler(poolQuery, () => progress);
  if (input.carried === undefined) setAttributes({ KilnHost: hostId });
  const { maintainPool } = poolActivities(input);
  for (let rounds = 1; ; rounds++) {
    woken = false;
    progress = await roundOf(maintainPool, progress);
    setCurrentDetails(poolDetails(hostId, progress));
    if (progress.last?.enabled === false && progress.silent === undefined) return 'switched off';
    if (isLost(progress, timings.lostAfterMs)) return 'host silent';
    if (rounds >= timings.continueAfter || workflowInfo().continueAsNewSuggested) {
      await continueAsNew<typeof poolWorkflow>({ ...input, carried: progress });
    }
    await condition(() => woken, timings.everyMs);
  }
}

async function roundOf(maintain: PoolActivities['maintainPool'], before: PoolProgress): Promise<PoolProgress> {
  const rounds = before.rounds + 1;
  try {
    const round = await maintain();
    return { rounds, last: { ...round, at: new Date().toISOString() } };
  } catch (error) {
    if (isCancellation(error)) throw error;
    const verdict = judge(error);
    const reason = verdict.kind === 'cancelled' ? 'cancelled' : verdict.message;
    const since = before.silent?.since ?? new Date().toISOString();
    return { ...before, rounds, silent: { since, reason: reason.slice(0, 500) } };
  }
}

function isLost({ silent }: PoolProgress, lostAfterMs: number): boolean {
  return silent !== undefined && Date.now() - Date.parse(silent.since) >= lostAfterMs;
}

function poolActivities({ hostId, timings }: PoolInput): PoolActivities {
  return proxyActivities<PoolActivities>({
    taskQueue: hostQueue(hostId),
    scheduleToStartTimeout: timings.scheduleToStartMs,
    startToCloseTimeout: timings.startToCloseMs,
    heartbeatTimeout: timings.heartbeatMs,
    // An abandoned round needs no clean-up: the host keeps its VMs in any case.
    cancellationType: ActivityCancellationType.TRY_CANCEL,
    retry: { maximumAttempts: 1 },
    summary: `recycle, refresh, fill up (${hostId})`,
  });
}
