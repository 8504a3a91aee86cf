/** Whether workers take the tasks of a queue: explains why nothing happens. */
import type { Client } from '@temporalio/client';
import type { ClientContext } from './client-context.ts';
import { type ClientTimings, DEFAULT_CLIENT_TIMINGS } from './client-timings.ts';
import { withDeadline } from './temporal-calls.ts';

/** @returns in words why a workflow did not answer a query. */
export async function whyNoAnswer(context: Pick<ClientContext, 'client' | 'timings' | 'taskQueue'>): Promise<string> {
  const { taskQueue, timings } = context;
  const queue = await describeQueue(context, taskQueue, 'workflow');
  if (!isFresh(queue, timings)) {
    return `No control worker polls ${taskQueue}. Start one with \`kiln worker control\`.`;
  }
  if (queue.backlog > 0) {
    const waits = `${queue.backlog} task(s) wait in ${taskQueue}, the oldest for ${Math.round(queue.backlogAgeMs / 1000)} s`;
    return `${waits}: every control worker is busy, or the last one has just gone. Start one more with \`kiln worker control\`.`;
  }
  return `The control worker did not answer in time; this is what Temporal itself knows. Its log tells more.`;
}

/**
 * @returns whether a worker takes the tasks of a queue: one has polled it lately, and no task has waited there longer
 * than a live worker would allow. @throws TEMPORAL_UNAVAILABLE
 */
export async function isPolled(
  context: Pick<ClientContext, 'client' | 'timings'>,
  taskQueue: string,
  kind: 'workflow' | 'activity',
): Promise<boolean> {
  const queue = await describeQueue(context, taskQueue, kind);
  return isFresh(queue, context.timings) && queue.backlogAgeMs <= context.timings.backlogMs;
}

interface QueueFacts {
  /** When a worker was last seen polling, epoch ms; 0: never. */
  readonly polledAtMs: number;
  /** Tasks that no worker has taken, as far as Temporal knows. */
  readonly backlog: number;
  /** How long the oldest of these tasks has waited. */
  readonly backlogAgeMs: number;
}

function isFresh({ polledAtMs }: QueueFacts, { pollerFreshMs }: ClientTimings): boolean {
  return Date.now() - polledAtMs <= pollerFreshMs;
}

async function describeQueue(
  { client, timings }: Pick<ClientContext, 'client' | 'timings'>,
  taskQueue: string,
  kind: 'workflow' | 'activity',
): Promise<QueueFacts> {
  const { pollers, stats } = await withDeadline(client, timings.callMs, () =>
    client.workflowService.describeTaskQueue({
      namespace: client.options.namespace,
      taskQueue: { name: taskQueue },
      taskQueueType: kind === 'workflow' ? WORKFLOW_TASKS : ACTIVITY_TASKS,
      reportStats: true,
    }),
  );
  const seen = (pollers ?? []).map(({ lastAccessTime }) => milliseconds(lastAccessTime));
  return {
    polledAtMs: Math.max(0, ...seen),
    backlog: Number(stats?.approximateBacklogCount ?? 0),
    backlogAgeMs: milliseconds(stats?.approximateBacklogAge),
  };
}

function milliseconds(time: { seconds?: unknown; nanos?: number | null } | null | undefined): number {
  return Number(time?.seconds ?? 0) * 1000 + (time?.nanos ?? 0) / 1e6;
}

/** `temporal.api.enums.v1.TaskQueueType`. */
const WORKFLOW_TASKS = 1;
const ACTIVITY_TASKS = 2;

/** @returns a check of whether a worker has polled a queue lately. */
export function createTaskQueueProbe(options: {
  readonly client: Client;
  readonly timings?: Partial<ClientTimings>;
}): (taskQueue: string, kind: 'workflow' | 'activity') => Promise<boolean> {
  const context = { client: options.client, timings: { ...DEFAULT_CLIENT_TIMINGS, ...options.timings } };
  return (taskQueue, kind) => isPolled(context, taskQueue, kind);
}
