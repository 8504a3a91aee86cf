/** Cancels runs, closes sessions and lets them sleep. */
import { WorkflowUpdateFailedError } from '@temporalio/client';
import { sessionWorkflowId, type ThreadName } from '../../../domain/names.ts';
import type { KnownRun } from '../../../domain/session/run-book.ts';
import { cancelRunUpdate, closeSignal, sleepSignal } from '../../../workflows/session/session-messages.ts';
import { isNoWorkflow, sentUntilReady, withDeadline } from '../temporal-calls.ts';
import { locateRun, readSession, type SessionSnapshot } from './read-session.ts';
import type { SessionClientContext } from './session-client-context.ts';
import { mustRead, nameOf } from './session-names.ts';
import { refused } from './session-updates.ts';

/** @throws NOT_FOUND, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE */
export async function cancelRun(context: SessionClientContext, name: ThreadName, runId: string): Promise<KnownRun> {
  const { client, timings } = context;
  const record = await mustRead(context, name);
  if (record.end !== undefined) return (await locateRun(context, name, runId)).run;
  const handle = client.workflow.getHandle(sessionWorkflowId(nameOf(record)));
  try {
    return await withDeadline(client, timings.sendMs, () =>
      sentUntilReady(() => handle.executeUpdate(cancelRunUpdate, { args: [{ runId }] })),
    );
  } catch (error) {
    // The workflow may know no more of a run that ended long ago.
    const isUnknown = error instanceof WorkflowUpdateFailedError && refused(error).code === 'NOT_FOUND';
    if (isUnknown || isNoWorkflow(error)) return (await locateRun(context, name, runId)).run;
    throw error instanceof WorkflowUpdateFailedError ? refused(error) : error;
  }
}

/**
 * Idempotent. A session that nothing was sent to is closed in its record alone.
 * @throws NOT_FOUND, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE
 */
export async function closeSession(
  context: SessionClientContext,
  name: ThreadName,
  { waitMs, by }: { waitMs: number; by?: string },
): Promise<{ snapshot: SessionSnapshot; settled: boolean }> {
  const { client, timings, books } = context;
  const record = await mustRead(context, name);
  if (record.end !== undefined) return { snapshot: { record }, settled: true };
  const handle = client.workflow.getHandle(sessionWorkflowId(nameOf(record)));
  try {
    await withDeadline(client, timings.callMs, () => handle.signal(closeSignal, by === undefined ? {} : { by }));
    // A passed deadline does not matter here: the record, read below, decides.
    if (waitMs > 0) await withDeadline(client, waitMs, () => handle.result()).catch(() => undefined);
  } catch (error) {
    if (!isNoWorkflow(error)) throw error;
    const at = new Date().toISOString();
    await books.sessions.end(nameOf(record), { as: 'closed', at, cause: 'CLOSE_ASKED', lastTurn: 0 });
  }
  context.lately.forget(name);
  const snapshot = await readSession(context, name);
  return { snapshot, settled: snapshot.record.end !== undefined };
}

/**
 * Lets a session give up its VM once its present runs have ended and its workspace is in the store. Idempotent; a session
 * without a VM stays as it is. @throws NOT_FOUND, TEMPORAL_UNAVAILABLE, STORE_UNAVAILABLE
 */
export async function sleepSession(context: SessionClientContext, name: ThreadName): Promise<SessionSnapshot> {
  const { client, timings } = context;
  const record = await mustRead(context, name);
  if (record.end !== undefined) return { record };
  const handle = client.workflow.getHandle(sessionWorkflowId(nameOf(record)));
  await withDeadline(client, timings.callMs, () => handle.signal(sleepSignal)).catch((error: unknown) => {
    if (!isNoWorkflow(error)) throw error;
  });
  return readSession(context, name);
}
