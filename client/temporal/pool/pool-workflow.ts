import { type Client, WorkflowExecutionAlreadyStartedError } from '@temporalio/client';
import { CONTROL_QUEUE, poolWorkflowId } from '../../../domain/names.ts';
import { DEFAULT_POOL_TIMINGS, type PoolInput, type PoolTimings } from '../../../domain/pool/pool-round.ts';
import { POOL_WORKFLOW } from '../../../workflows/messages.ts';

/** Starts the workflow that keeps a host's pool in order; a running one gets a signal that the host is back. */
export async function ensurePoolWorkflow(
  client: Client,
  hostId: string,
  timings: Partial<PoolTimings> = {},
): Promise<void> {
  const input: PoolInput = { hostId, timings: { ...DEFAULT_POOL_TIMINGS, ...timings } };
  try {
    await client.workflow.signalWithStart(POOL_WORKFLOW, {
      workflowId: poolWorkflowId(hostId),
      taskQueue: CONTROL_QUEUE,
      args: [input],
      signal: 'maintain',
      signalArgs: [],
      workflowIdReusePolicy: 'ALLOW_DUPLICATE',
    });
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
  }
}
