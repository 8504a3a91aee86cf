/** History: the moves of a workload, computed from the events in Temporal or, later, in the archive. */
import type { WorkloadHistoryView } from '../../../contracts/api/workload-view.ts';
import { workloadWorkflowId } from '../../../domain/names.ts';
import { project } from '../../../domain/workload/projector.ts';
import { type StageLedger, stagesOf } from '../../../domain/workload/reducer.ts';
import type { WorkloadState } from '../../../domain/workload/workload.ts';
import { archivedEvents, corrupt } from '../archive/archived-events.ts';
import { fetchKnown } from '../archive/fetch-executions.ts';
import { recordedEvents } from '../archive/recorded-events.ts';
import type { ClientContext } from '../client-context.ts';
import { describe, readWorkload } from './read-workload.ts';

/**
 * @throws NOT_FOUND, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE, INVALID_TRANSITION where the events are not a valid
 * history, ARCHIVE_CORRUPT where they differ from those that were recorded
 */
export async function workloadHistory(context: ClientContext, id: string): Promise<WorkloadHistoryView> {
  const description = await describe(context, id);
  if (description === undefined) return archivedHistory(context, id);
  const { state } = await readWorkload(context, id);
  const { histories, forgotten } = await fetchKnown(context, workloadWorkflowId(id), description.runId);
  // Temporal forgets each earlier execution by itself, perhaps long before the workload is over.
  const earlier = forgotten === undefined ? [] : await context.archive.historyUpTo(id, forgotten);
  if (earlier === undefined) return { id, source: 'temporal', stages: stagesOf(state), moves: [...state.moves] };
  const ledger = project([...archivedEvents(id, earlier), ...recordedEvents(histories)]);
  const events =
    earlier.reduce((sum, execution) => sum + execution.events, 0) +
    histories.reduce((sum, history) => sum + (history.events?.length ?? 0), 0);
  return { id, source: 'temporal', ...told(ledger, state), events };
}

/** After Temporal has forgotten it: from the recorded events; without them, from the result. */
async function archivedHistory(context: ClientContext, id: string): Promise<WorkloadHistoryView> {
  const { state } = await readWorkload(context, id);
  const executions = await context.archive.history(id);
  if (executions === undefined) return { id, source: 'archive', stages: stagesOf(state), moves: [...state.moves] };
  const ledger = project(archivedEvents(id, executions));
  if (!tellTheSame(ledger, state)) throw corrupt(id, 'its result tells other moves than its events');
  const events = executions.reduce((sum, execution) => sum + execution.events, 0);
  return { id, source: 'archive', ...told(ledger, state), events };
}

/** Events say what and when; the workflow's own list also says why. */
function told(ledger: StageLedger, state: WorkloadState): Pick<WorkloadHistoryView, 'stages' | 'moves'> {
  const moves = ledger.moves.map((move) => {
    const known = state.moves[move.seq - 1];
    return known?.from === move.from && known.to === move.to ? { ...move, cause: known.cause } : move;
  });
  return { stages: stagesOf(ledger), moves };
}

/** A workload that was ended from outside has a last move that no event shows. */
function tellTheSame(ledger: StageLedger, { moves, failure }: WorkloadState): boolean {
  const expected = failure?.code === 'TERMINATED' ? moves.slice(0, ledger.moves.length) : moves;
  return expected.length === ledger.moves.length && expected.every(({ to }, index) => ledger.moves[index]?.to === to);
}
