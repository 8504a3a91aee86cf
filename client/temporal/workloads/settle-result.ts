/** Makes sure that the result of a finished workload is stored, also where its workflow could not write it. */
import type { WorkflowExecutionDescription } from '@temporalio/client';
import { isKilnError, KilnError } from '../../../domain/failures.ts';
import { project } from '../../../domain/workload/projector.ts';
import { isFinal } from '../../../domain/workload/stages.ts';
import type { WorkloadState } from '../../../domain/workload/workload.ts';
import { fetchExecutions } from '../archive/fetch-executions.ts';
import { recordedEvents } from '../archive/recorded-events.ts';
import type { ClientContext } from '../client-context.ts';
import { describe, readWorkload } from './read-workload.ts';
import { attributeOf, endedState, stateFromDescription, terminatedState } from './recorded-state.ts';

/** `derived`: read from its events, which say less than the workflow itself. */
export type SettledResult = 'standing' | 'written' | 'derived' | 'none';

/**
 * @param options.deriveAfterMs how long after its end to wait for the workflow's own result
 * @returns how it was settled; `none`: its history is not that of a workload, so there is no result
 * @throws TIMED_OUT where its workflow does not answer yet; TEMPORAL_UNAVAILABLE, STORE_UNAVAILABLE
 */
export async function settleResult(
  context: ClientContext,
  id: string,
  options: { readonly deriveAfterMs: number; readonly nowMs: number },
): Promise<SettledResult> {
  const { archive } = context;
  if ((await archive.result(id)) !== undefined) return 'standing';
  const description = await describe(context, id);
  if (description === undefined || description.status.name === 'RUNNING') return 'none';
  const { state, origin } = await readWorkload(context, id);
  if (origin !== 'temporal') {
    if (!isFinal(state.stage)) return 'none';
    await archive.writeResult(state);
    return 'written';
  }
  const closedMs = (description.closeTime ?? description.startTime).getTime();
  if (options.nowMs - closedMs < options.deriveAfterMs) {
    throw new KilnError('TIMED_OUT', `The workflow of ${id} does not answer; its result is not kept yet.`);
  }
  const derived = await stateFromEvents(context, id, description);
  if (derived === undefined) return 'none';
  await archive.writeResult(derived);
  return 'derived';
}

/** @returns undefined where the events are not those of a valid workload that was ended from outside. */
async function stateFromEvents(
  context: ClientContext,
  id: string,
  description: WorkflowExecutionDescription,
): Promise<WorkloadState | undefined> {
  const status = description.status.name;
  if (status !== 'TERMINATED' && status !== 'TIMED_OUT') return undefined;
  try {
    const ledger = project(recordedEvents(await fetchExecutions(context, id, description.runId)));
    const known = { ...stateFromDescription(description), stage: ledger.stage, moves: ledger.moves };
    if (isFinal(known.stage)) return endedState(known, ledger, attributeOf(description, 'KilnOutcome'));
    const closedAt = (description.closeTime ?? description.startTime).toISOString();
    return terminatedState(known, closedAt, status, attributeOf(description, 'KilnHost'));
  } catch (error) {
    if (isKilnError(error, 'INVALID_TRANSITION')) return undefined;
    throw error;
  }
}
