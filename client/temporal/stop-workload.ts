/** Stop: a signal, then patience. */

import { workloadWorkflowId } from '../../domain/names.ts';
import { isFinal } from '../../domain/stages.ts';
import { stopSignal } from '../../workflows/messages.ts';
import type { ClientContext, StopOptions, WorkloadSnapshot } from './client-context.ts';
import { startFromSpec } from './create-workload.ts';
import { describe, readWorkload } from './read-workload.ts';
import { isNoWorkflow, withDeadline } from './temporal-calls.ts';

/** @throws NOT_FOUND, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE */
export async function stopWorkload(
  context: ClientContext,
  id: string,
  { waitMs, ...request }: StopOptions,
): Promise<{ snapshot: WorkloadSnapshot; settled: boolean }> {
  await healUnstarted(context, id);
  const { client, timings } = context;
  const handle = client.workflow.getHandle(workloadWorkflowId(id));
  try {
    await withDeadline(client, timings.callMs, () => handle.signal(stopSignal, request));
    // A deadline passed, a failure of the workload: what counts is the state, read below.
    if (waitMs > 0) await withDeadline(client, waitMs, () => handle.result()).catch(() => undefined);
  } catch (error) {
    // Over already, or never there: reading tells.
    if (!isNoWorkflow(error)) throw error;
  }
  const snapshot = await readWorkload(context, id);
  return { snapshot, settled: isFinal(snapshot.state.stage) };
}

/** A create that broke off half way is finished first, so that its retry cannot start what was stopped. */
async function healUnstarted(context: ClientContext, id: string): Promise<void> {
  if ((await describe(context, id)) !== undefined) return;
  const spec = await context.archive.specDocument(id);
  if (spec !== undefined) await startFromSpec(context, spec);
}
