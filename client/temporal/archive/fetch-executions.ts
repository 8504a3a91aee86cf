/** The events that Temporal still has of a workload, over all of its executions. */
import { KilnError } from '../../../domain/failures.ts';
import { workloadWorkflowId } from '../../../domain/names.ts';
import type { ClientContext } from '../client-context.ts';
import { isNoWorkflow, withDeadline } from '../temporal-calls.ts';
import type { FetchedHistory } from './recorded-events.ts';

type HistoryContext = Pick<ClientContext, 'client' | 'timings'>;

/**
 * Fetches the executions of a workload, the first one first: each continued one names the one before it.
 * @throws TEMPORAL_UNAVAILABLE, NOT_FOUND where Temporal has forgotten one of them
 */
export function fetchExecutions(
  context: HistoryContext,
  id: string,
  lastExecutionId?: string,
): Promise<FetchedHistory[]> {
  return fetchChain(context, workloadWorkflowId(id), lastExecutionId);
}

/** As `fetchExecutions`, for any workflow. */
export async function fetchChain(
  context: HistoryContext,
  workflowId: string,
  lastExecutionId?: string,
): Promise<FetchedHistory[]> {
  const { histories, forgotten } = await fetchKnown(context, workflowId, lastExecutionId);
  if (forgotten === undefined) return histories;
  const message = `Temporal has forgotten the execution ${forgotten} of ${workflowId}.`;
  throw new KilnError('NOT_FOUND', message, { workflowId });
}

/** @returns the executions that Temporal has, and the id of the one before them where Temporal has forgotten that. */
export async function fetchKnown(
  context: HistoryContext,
  workflowId: string,
  lastExecutionId: string | undefined,
): Promise<{ histories: FetchedHistory[]; forgotten?: string }> {
  const histories: FetchedHistory[] = [];
  for (let executionId = lastExecutionId, more = true; more; ) {
    try {
      const history = await fetchExecution(context, workflowId, executionId);
      histories.unshift(history);
      executionId = history.events?.[0]?.workflowExecutionStartedEventAttributes?.continuedExecutionRunId || undefined;
      more = executionId !== undefined;
    } catch (error) {
      if (histories.length === 0 || executionId === undefined || !isNoWorkflow(error)) throw error;
      return { histories, forgotten: executionId };
    }
  }
  return { histories };
}

function fetchExecution(
  { client, timings }: HistoryContext,
  workflowId: string,
  executionId: string | undefined,
): Promise<FetchedHistory> {
  const handle = client.workflow.getHandle(workflowId, executionId);
  return withDeadline(client, timings.callMs, () => handle.fetchHistory());
}
