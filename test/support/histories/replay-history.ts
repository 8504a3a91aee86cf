import type { Client } from '@temporalio/client';
import { Worker } from '@temporalio/worker';
import { inject } from 'vitest';
import { readWorkflowBundle } from '../servers/workflow-bundle.ts';

/** Replays the newest execution of a workflow with today's code. @throws the error of the replay */
export async function replayHistory(client: Client, workflowId: string): Promise<void> {
  const history = await client.workflow.getHandle(workflowId).fetchHistory();
  const workflowBundle = await readWorkflowBundle(inject('workflowBundle'));
  await Worker.runReplayHistory({ workflowBundle }, history, workflowId);
}
