/** Stop: sends a signal, then waits. */

import { workloadWorkflowId } from '../../../domain/names.ts';
import { isFinal } from '../../../domain/workload/stages.ts';
import type { StopRequest } from '../../../domain/workload/workload-input.ts';
import { stopSignal } from '../../../workflows/messages.ts';
import type { ClientContext, StopOptions, WorkloadSnapshot } from '../client-context.ts';
import { isNoWorkflow, withDeadline } from '../temporal-calls.ts';
import { startFromSpec } from './create-workload.ts';
import { describe, readWorkload } from './read-workload.ts';

/** @throws NOT_FOUND, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE */
export async function stopWorkload(
  context: ClientContext,
  id: string,
  { waitMs, ...request }: StopOptions,
): Promise<{ snapshot: WorkloadSnapshot; settled: boolean }> {
  for (;;) {
    await healUnstarted(context, id);
    const sent = await signalStop(context, id, request);
    // A passed deadline or a failed workload does not matter here: the state, read below, decides.
    if (sent && waitMs > 0) {
      const handle = context.client.workflow.getHandle(workloadWorkflowId(id));
      await withDeadline(context.client, waitMs, () => handle.result()).catch(() => undefined);
    }
    const snapshot = await readWorkload(context, id);
    const settled = isFinal(snapshot.state.stage);
    // A workload that was started between the signal and the read has not received the stop yet.
    if (sent || settled) return { snapshot, settled };
  }
}

/** @returns false where there is no open workflow: ended already, or never started; a read shows which */
async function signalStop(context: ClientContext, id: string, request: StopRequest): Promise<boolean> {
  const { client, timings } = context;
  const handle = client.workflow.getHandle(workloadWorkflowId(id));
  try {
    await withDeadline(client, timings.callMs, () => handle.signal(stopSignal, request));
    return true;
  } catch (error) {
    if (!isNoWorkflow(error)) throw error;
    return false;
  }
}

/** Completes an interrupted create first, so that its retry cannot start what was stopped. */
async function healUnstarted(context: ClientContext, id: string): Promise<void> {
  if ((await describe(context, id)) !== undefined) return;
  const spec = await context.archive.specDocument(id);
  if (spec !== undefined) await startFromSpec(context, spec);
}
