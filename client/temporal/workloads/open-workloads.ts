/** How many workloads are open now, by stage and age: "stuck" as a figure. Temporal counts them, nothing is listed. */
import type { Client } from '@temporalio/client';
import { STAGES, type Stage } from '../../../domain/workload/stages.ts';
import { WORKLOAD_WORKFLOW } from '../../../workflows/messages.ts';
import { type ClientTimings, DEFAULT_CLIENT_TIMINGS } from '../client-timings.ts';
import { withDeadline } from '../temporal-calls.ts';

export interface OpenWorkloads {
  /** A final stage here: the outcome is fixed, but the books are not closed yet. */
  readonly stage: Stage;
  /** Counts executions that began longer ago than this; 0: all. */
  readonly olderThanS: number;
  readonly count: number;
}

/**
 * @param options.agesS ages at which to count, seconds; 0 must be the first
 * @returns a count of the open workloads of each stage at each age. @throws TEMPORAL_UNAVAILABLE
 */
export function createOpenWorkloadCount(options: {
  readonly client: Client;
  readonly agesS: readonly number[];
  readonly timings?: Partial<ClientTimings>;
}): () => Promise<OpenWorkloads[]> {
  const { client, agesS } = options;
  const { callMs } = { ...DEFAULT_CLIENT_TIMINGS, ...options.timings };
  const count = async (stage: Stage, olderThanS: number): Promise<number> => {
    const before = new Date(Date.now() - olderThanS * 1000).toISOString();
    const query = `WorkflowType = '${WORKLOAD_WORKFLOW}' AND ExecutionStatus = 'Running' AND KilnStage = '${stage}'${
      olderThanS === 0 ? '' : ` AND StartTime < '${before}'`
    }`;
    return withDeadline(client, callMs, async () => (await client.workflow.count(query)).count);
  };
  const ofStage = async (stage: Stage): Promise<OpenWorkloads[]> => {
    const counts: OpenWorkloads[] = [];
    for (const olderThanS of agesS) {
      // If there are none at a lower age, there are none at a higher one.
      const none = counts.at(-1)?.count === 0;
      counts.push({ stage, olderThanS, count: none ? 0 : await count(stage, olderThanS) });
    }
    return counts;
  };
  return async () => (await Promise.all(STAGES.map(ofStage))).flat();
}
