import type { Client } from '@temporalio/client';
import { Worker } from '@temporalio/worker';
import { bundleWorkflows } from '../../temporal/workflow-bundle.ts';

/** Replays the newest execution of a workflow with today's code. @throws what the replay finds */
export async function replayHistory(client: Client, workflowId: string): Promise<void> {
  const history = await client.workflow.getHandle(workflowId).fetchHistory();
  await Worker.runReplayHistory({ workflowBundle: await bundleWorkflows() }, history, workflowId);
}
