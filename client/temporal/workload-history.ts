/** History: the moves of a workload, folded from the events that Temporal keeps. */
import type { WorkloadHistoryView } from '../../contracts/workload-view.ts';
import { workloadWorkflowId } from '../../domain/names.ts';
import { project } from '../../domain/projector.ts';
import { stagesOf } from '../../domain/reducer.ts';
import type { ClientContext } from './client-context.ts';
import { describe, readWorkload } from './read-workload.ts';
import { type FetchedHistory, recordedEvents } from './recorded-events.ts';
import { withDeadline } from './temporal-calls.ts';

/** @throws NOT_FOUND, TEMPORAL_UNAVAILABLE, INVALID_TRANSITION where the events are no lawful history */
export async function workloadHistory(context: ClientContext, id: string): Promise<WorkloadHistoryView> {
  const description = await describe(context, id);
  if (description === undefined) return archivedHistory(context, id);
  const histories = await fetchExecutions(context, id, description.runId);
  const ledger = project(recordedEvents(histories));
  const { state } = await readWorkload(context, id);
  const moves = ledger.moves.map((move) => {
    // Events tell what and when; why is in the workflow's own list.
    const told = state.moves[move.seq - 1];
    return told?.from === move.from && told.to === move.to ? { ...move, cause: told.cause } : move;
  });
  const events = histories.reduce((sum, history) => sum + (history.events?.length ?? 0), 0);
  return { id, source: 'temporal', stages: stagesOf(ledger), moves, events };
}

type HistoryContext = Pick<ClientContext, 'client' | 'timings'>;

/**
 * Fetches the executions of a workload, the first one first: each continued one names the one before it.
 * @throws TEMPORAL_UNAVAILABLE
 */
export async function fetchExecutions(
  context: HistoryContext,
  id: string,
  lastExecutionId?: string,
): Promise<FetchedHistory[]> {
  const histories: FetchedHistory[] = [];
  for (let executionId = lastExecutionId, more = true; more; ) {
    const history = await fetchExecution(context, id, executionId);
    histories.unshift(history);
    executionId = history.events?.[0]?.workflowExecutionStartedEventAttributes?.continuedExecutionRunId || undefined;
    more = executionId !== undefined;
  }
  return histories;
}

function fetchExecution(
  { client, timings }: HistoryContext,
  id: string,
  executionId: string | undefined,
): Promise<FetchedHistory> {
  const handle = client.workflow.getHandle(workloadWorkflowId(id), executionId);
  return withDeadline(client, timings.callMs, () => handle.fetchHistory());
}

async function archivedHistory(context: ClientContext, id: string): Promise<WorkloadHistoryView> {
  const { state } = await readWorkload(context, id);
  return { id, source: 'archive', stages: stagesOf(state), moves: [...state.moves] };
}
