import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Client, Connection } from '@temporalio/client';
import { workloadWorkflowId } from '../../domain/names.ts';
import { type BenchStack, preciseNow, startBenchStack } from '../dev-stack.ts';
import type { Measurement } from '../figure.ts';
import type { GroupOptions } from '../group-options.ts';
import { startPoller } from '../poller.ts';

const POLL_INTERVAL_MS = 5_000;

/**
 * From `POST /api/workloads` to the start of the first activity, as Temporal recorded it: request, spec document, start,
 * workflow task, dispatch. The service does not exist, so no VM is ever made. The rival gets a job at the same moments,
 * which are spread evenly over its interval: neither lucky nor unlucky.
 */
export async function measureDispatch(options: GroupOptions): Promise<readonly Measurement[]> {
  const { n, say, directory, signal } = options;
  const stack = await startBenchStack(directory, signal);
  const connection = await Connection.connect({ address: stack.info.temporal.address });
  const client = new Client({ connection, namespace: stack.info.temporal.namespace });
  const poller = startPoller(join(directory, 'jobs.db'), POLL_INTERVAL_MS);
  try {
    await dispatchOnce(stack, client, 'bench-warm-up');
    const spacingMs = (2 * POLL_INTERVAL_MS) / n;
    const began = performance.now();
    const kiln: number[] = [];
    const rival: Promise<number>[] = [];
    for (let sample = 0; sample < n; sample += 1) {
      await delay(Math.max(0, began + sample * spacingMs - performance.now()), undefined, { signal });
      rival.push(poller.submit());
      kiln.push(await dispatchOnce(stack, client, `bench-${sample}`));
      if ((sample + 1) % 10 === 0) say(`dispatch: ${sample + 1} of ${n}`);
    }
    const samples = await Promise.all(rival);
    return [{ name: 'dispatch', unit: 'ms', kiln, rival: { words: 'a 5 s poller of a local table', samples } }];
  } finally {
    poller.close();
    await connection.close();
    await stack.close();
  }
}

async function dispatchOnce(stack: BenchStack, client: Client, id: string): Promise<number> {
  const submittedAt = preciseNow();
  await stack.create({ id, servicePath: 'no-such-service' });
  await stack.until(id, 'failed');
  const { events } = await client.workflow.getHandle(workloadWorkflowId(id)).fetchHistory();
  const started = events?.find((event) => event.activityTaskStartedEventAttributes)?.eventTime;
  if (!started) throw new Error(`the history of ${id} holds no started activity`);
  return Number(started.seconds ?? 0) * 1_000 + (started.nanos ?? 0) / 1e6 - submittedAt;
}
