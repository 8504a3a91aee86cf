/** Changes settings of sessions: in their record first, then in their workflow. */
import { WorkflowUpdateFailedError } from '@temporalio/client';
import type { PatchSession } from '../../../contracts/api/session-request.ts';
import { sessionWorkflowId, type ThreadName } from '../../../domain/names.ts';
import { changeSettingsUpdate } from '../../../workflows/session/session-messages.ts';
import { isNoWorkflow, sentUntilReady, withDeadline } from '../temporal-calls.ts';
import { readSession, type SessionSnapshot } from './read-session.ts';
import type { SessionClientContext } from './session-client-context.ts';
import { egressOf, mustRead, nameOf } from './session-names.ts';
import { refused } from './session-updates.ts';

/** Idempotent. @throws NOT_FOUND, SESSION_CLOSED, SESSION_EXPIRED, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE */
export async function patchSession(
  context: SessionClientContext,
  name: ThreadName,
  { egress, tiers, resources }: PatchSession,
): Promise<SessionSnapshot> {
  const { client, timings, books, privateNames } = context;
  const allowed = egress && egressOf(egress, privateNames);
  const session = nameOf(await mustRead(context, name));
  const { settings } = await books.sessions.change(session, (before) => ({
    ...before,
    egress: allowed ?? before.egress,
    tiers: { ...before.tiers, ...tiers },
    resources: { ...before.resources, ...resources },
  }));
  context.lately.forget(name);
  const handle = client.workflow.getHandle(sessionWorkflowId(session));
  try {
    await withDeadline(client, timings.sendMs, () =>
      sentUntilReady(() => handle.executeUpdate(changeSettingsUpdate, { args: [settings] })),
    );
  } catch (error) {
    // A session that nothing was sent to reads its record when it begins.
    if (error instanceof WorkflowUpdateFailedError) throw refused(error);
    if (!isNoWorkflow(error)) throw error;
  }
  return readSession(context, name);
}
