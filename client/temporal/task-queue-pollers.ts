/** Who takes the tasks of a queue: the answer to why nothing happens. */
import type { Client } from '@temporalio/client';
import type { ClientContext } from './client-context.ts';
import { type ClientTimings, DEFAULT_CLIENT_TIMINGS } from './client-timings.ts';
import { withDeadline } from './temporal-calls.ts';

/** @returns in words why a workflow did not answer a query. */
export async function whyNoAnswer(context: ClientContext): Promise<string> {
  if (!(await isPolled(context, context.taskQueue, 'workflow'))) {
    return `No control worker polls ${context.taskQueue}. Start one with \`kiln worker control\`.`;
  }
  return `The control worker did not answer in time; this is what Temporal itself knows. Its log tells more.`;
}

/** @returns whether a worker has polled the queue lately. @throws TEMPORAL_UNAVAILABLE */
export async function isPolled(
  context: Pick<ClientContext, 'client' | 'timings'>,
  taskQueue: string,
  kind: 'workflow' | 'activity',
): Promise<boolean> {
  const { client, timings } = context;
  const taskQueueType = kind === 'workflow' ? WORKFLOW_TASKS : ACTIVITY_TASKS;
  const { pollers } = await withDeadline(client, timings.callMs, () =>
    client.workflowService.describeTaskQueue({
      namespace: client.options.namespace,
      taskQueue: { name: taskQueue },
      taskQueueType,
    }),
  );
  const now = Date.now();
  return (pollers ?? []).some(({ lastAccessTime }) => {
    const seenMs = Number(lastAccessTime?.seconds ?? 0) * 1000;
    return now - seenMs <= timings.pollerFreshMs;
  });
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
