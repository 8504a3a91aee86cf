import { type Client, WorkflowNotFoundError } from '@temporalio/client';
import { ownerOf } from '../../domain/owner.ts';
import type { TellVmGone } from '../../host/runs/vm-watch.ts';
import { vmGoneSignal } from '../../workflows/session/session-messages.ts';

/** After this, the owner is told again. */
const TELL_MS = 10_000;

/** Tells the workflow of a session that its VM has ended. Any other owner watches its VM by itself. */
export function vmGoneOverTemporal(client: Client): TellVmGone {
  return async ({ workflowId }, vmId, { reason, signal, code }) => {
    if (ownerOf(workflowId)?.kind !== 'session') return;
    const how = signal ?? (code === null ? reason : `code ${code}`);
    try {
      const told = { vmId, reason: `its process ended (${how})` };
      const handle = client.workflow.getHandle(workflowId);
      await client.withDeadline(Date.now() + TELL_MS, () => handle.signal(vmGoneSignal, told));
    } catch (error) {
      // A workflow that is over needs no VM; the sweep removes what is left of it.
      if (!(error instanceof WorkflowNotFoundError)) throw error;
    }
  };
}
