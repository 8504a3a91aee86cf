/** What a host tells the workflows of its sessions by itself. Any other owner watches its VM by itself. */
import { type Client, type WorkflowHandle, WorkflowNotFoundError } from '@temporalio/client';
import { ownerOf } from '../../domain/owner.ts';
import type { TellSleep } from '../../host/runs/drain-sleep.ts';
import type { TellVmGone } from '../../host/runs/vm-watch.ts';
import { sleepSignal, vmGoneSignal } from '../../workflows/session/session-messages.ts';

/** After this, the owner is told again. */
const TELL_MS = 10_000;

/** Tells the workflow of a session that its VM has ended. */
export function vmGoneOverTemporal(client: Client): TellVmGone {
  return ({ workflowId }, vmId, { reason, signal, code }) => {
    const how = signal ?? (code === null ? reason : `code ${code}`);
    const told = { vmId, reason: `its process ended (${how})` };
    return tell(client, workflowId, (handle) => handle.signal(vmGoneSignal, told));
  };
}

/** Asks the workflow of a session to give up its VM as soon as it can. */
export function sleepOverTemporal(client: Client): TellSleep {
  return ({ workflowId }) => tell(client, workflowId, (handle) => handle.signal(sleepSignal));
}

async function tell(
  client: Client,
  workflowId: string,
  signal: (handle: WorkflowHandle) => Promise<void>,
): Promise<void> {
  if (ownerOf(workflowId)?.kind !== 'session') return;
  try {
    const handle = client.workflow.getHandle(workflowId);
    await client.withDeadline(Date.now() + TELL_MS, () => signal(handle));
  } catch (error) {
    // A workflow that is over needs no VM; the sweep removes what is left of it.
    if (!(error instanceof WorkflowNotFoundError)) throw error;
  }
}
