/** History: the moves of a workload, folded from the events that Temporal, or later the archive, keeps. */
import type { WorkloadHistoryView } from '../../contracts/workload-view.ts';
import { KilnError } from '../../domain/failures.ts';
import { workloadWorkflowId } from '../../domain/names.ts';
import { project } from '../../domain/projector.ts';
import { type StageLedger, stagesOf } from '../../domain/reducer.ts';
import type { WorkloadState } from '../../domain/workload.ts';
import { archivedEvents, corrupt } from './archived-events.ts';
import type { ClientContext } from './client-context.ts';
import { describe, readWorkload } from './read-workload.ts';
import { type FetchedHistory, recordedEvents } from './recorded-events.ts';
import { isNoWorkflow, withDeadline } from './temporal-calls.ts';

/**
 * @throws NOT_FOUND, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE, INVALID_TRANSITION where the events are no lawful history,
 * ARCHIVE_CORRUPT where they are not those that were recorded
 */
export async function workloadHistory(context: ClientContext, id: string): Promise<WorkloadHistoryView> {
  const description = await describe(context, id);
  if (description === undefined) return archivedHistory(context, id);
  const { state } = await readWorkload(context, id);
  const { histories, forgotten } = await fetchKnown(context, id, description.runId);
  // What a workload has continued as new from is forgotten by itself, perhaps long before the workload is over.
  const earlier = forgotten === undefined ? [] : await context.archive.historyUpTo(id, forgotten);
  if (earlier === undefined) return { id, source: 'temporal', stages: stagesOf(state), moves: [...state.moves] };
  const ledger = project([...archivedEvents(id, earlier), ...recordedEvents(histories)]);
  const events =
    earlier.reduce((sum, execution) => sum + execution.events, 0) +
    histories.reduce((sum, history) => sum + (history.events?.length ?? 0), 0);
  return { id, source: 'temporal', ...told(ledger, state), events };
}

/** Once Temporal has forgotten it: from the recorded events; where there are none, the result is all that is left. */
async function archivedHistory(context: ClientContext, id: string): Promise<WorkloadHistoryView> {
  const { state } = await readWorkload(context, id);
  const executions = await context.archive.history(id);
  if (executions === undefined) return { id, source: 'archive', stages: stagesOf(state), moves: [...state.moves] };
  const ledger = project(archivedEvents(id, executions));
  if (!tellTheSame(ledger, state)) throw corrupt(id, 'its result tells other moves than its events');
  const events = executions.reduce((sum, execution) => sum + execution.events, 0);
  return { id, source: 'archive', ...told(ledger, state), events };
}

/** Events tell what and when; why is in the workflow's own list. */
function told(ledger: StageLedger, state: WorkloadState): Pick<WorkloadHistoryView, 'stages' | 'moves'> {
  const moves = ledger.moves.map((move) => {
    const known = state.moves[move.seq - 1];
    return known?.from === move.from && known.to === move.to ? { ...move, cause: known.cause } : move;
  });
  return { stages: stagesOf(ledger), moves };
}

/** What ended from outside has a last move that no event tells. */
function tellTheSame(ledger: StageLedger, { moves, failure }: WorkloadState): boolean {
  const expected = failure?.code === 'TERMINATED' ? moves.slice(0, ledger.moves.length) : moves;
  return expected.length === ledger.moves.length && expected.every(({ to }, index) => ledger.moves[index]?.to === to);
}

type HistoryContext = Pick<ClientContext, 'client' | 'timings'>;

/**
 * Fetches the executions of a workload, the first one first: each continued one names the one before it.
 * @throws TEMPORAL_UNAVAILABLE, NOT_FOUND where one of them was forgotten
 */
export async function fetchExecutions(
  context: HistoryContext,
  id: string,
  lastExecutionId?: string,
): Promise<FetchedHistory[]> {
  const { histories, forgotten } = await fetchKnown(context, id, lastExecutionId);
  if (forgotten === undefined) return histories;
  throw new KilnError('NOT_FOUND', `Temporal has forgotten the execution ${forgotten} of ${id}.`, { id });
}

/** @returns the executions that Temporal knows, and the id of the one before them where it has forgotten that. */
async function fetchKnown(
  context: HistoryContext,
  id: string,
  lastExecutionId: string | undefined,
): Promise<{ histories: FetchedHistory[]; forgotten?: string }> {
  const histories: FetchedHistory[] = [];
  for (let executionId = lastExecutionId, more = true; more; ) {
    try {
      const history = await fetchExecution(context, id, executionId);
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
  id: string,
  executionId: string | undefined,
): Promise<FetchedHistory> {
  const handle = client.workflow.getHandle(workloadWorkflowId(id), executionId);
  return withDeadline(client, timings.callMs, () => handle.fetchHistory());
}
