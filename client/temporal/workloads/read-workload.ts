/** Get: Temporal's description first, then the workflow itself, then the archive. */
import type { WorkflowExecutionDescription } from '@temporalio/client';
import { WorkflowFailedError } from '@temporalio/client';
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { workloadStateSchema } from '../../../contracts/store/workload-documents.ts';
import { defined } from '../../../domain/defined.ts';
import { isKilnError, KilnError } from '../../../domain/failures.ts';
import { workloadWorkflowId } from '../../../domain/names.ts';
import { project } from '../../../domain/workload/projector.ts';
import { isFinal } from '../../../domain/workload/stages.ts';
import { DEFAULT_IMAGE, type WorkloadState } from '../../../domain/workload/workload.ts';
import { workloadQuery } from '../../../workflows/messages.ts';
import { fetchExecutions } from '../archive/fetch-executions.ts';
import { recordedEvents } from '../archive/recorded-events.ts';
import type { ClientContext, WorkloadSnapshot } from '../client-context.ts';
import { whyNoAnswer } from '../task-queue-pollers.ts';
import { isNoWorkflow, isUnavailable, withDeadline } from '../temporal-calls.ts';
import {
  attributeOf,
  endedState,
  memoOf,
  stateFromDescription,
  terminatedState,
  unstartedState,
} from './recorded-state.ts';

/** @throws NOT_FOUND, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE */
export async function readWorkload(context: ClientContext, id: string): Promise<WorkloadSnapshot> {
  const snapshot = await readSnapshot(context, id);
  if (!isFinal(snapshot.state.stage) || snapshot.state.unreleased.length === 0) return snapshot;
  const releases = await context.archive.releases(id);
  return releases.length === 0 ? snapshot : { ...snapshot, releases };
}

async function readSnapshot(context: ClientContext, id: string): Promise<WorkloadSnapshot> {
  const description = await describe(context, id);
  if (description === undefined) return readUnknown(context, id);
  return readKnown(context, id, description);
}

async function readKnown(
  context: ClientContext,
  id: string,
  description: WorkflowExecutionDescription,
): Promise<WorkloadSnapshot> {
  const common = snapshotFacts(description);
  if (description.status.name === 'RUNNING') {
    return { ...common, isOpen: true, ...(await readOpen(context, description)) };
  }
  return { ...common, ...(await readClosed(context, description, id)) };
}

/** @returns undefined where Temporal has no such workflow. */
export async function describe(context: ClientContext, id: string): Promise<WorkflowExecutionDescription | undefined> {
  try {
    const handle = context.client.workflow.getHandle(workloadWorkflowId(id));
    return await withDeadline(context.client, context.timings.callMs, () => handle.describe());
  } catch (error) {
    if (isNoWorkflow(error)) return undefined;
    throw error;
  }
}

type Read = Pick<WorkloadSnapshot, 'state' | 'origin'>;

async function readOpen(context: ClientContext, description: WorkflowExecutionDescription): Promise<Read> {
  const state = await queryState(context, description);
  if (state !== undefined) return { state, origin: 'workflow' };
  const reason = await whyNoAnswer(context);
  const known = await recordedState(context, description);
  const since = stateFromDescription(description).updatedAt;
  return { state: { ...known, waiting: { reason, since } }, origin: 'temporal' };
}

/** @returns what Temporal alone knows; in a final stage also the moves, where the events are available. */
async function recordedState(
  context: ClientContext,
  description: WorkflowExecutionDescription,
): Promise<WorkloadState> {
  const known = stateFromDescription(description);
  if (!isFinal(known.stage)) return known;
  try {
    const executions = await fetchExecutions(context, known.workloadId, description.runId);
    return endedState(known, project(recordedEvents(executions)), attributeOf(description, 'KilnOutcome'));
  } catch (error) {
    if (isKilnError(error)) return known;
    throw error;
  }
}

async function readClosed(
  context: ClientContext,
  description: WorkflowExecutionDescription,
  id: string,
): Promise<Read> {
  const archived = await context.archive.result(id);
  if (archived !== undefined) return { state: archived, origin: 'archive' };
  const status = description.status.name;
  if (status !== 'TERMINATED' && status !== 'TIMED_OUT') {
    const state = await stateFromClose(context, description);
    if (state !== undefined) return { state, origin: 'workflow' };
  }
  const last = await queryState(context, description);
  const closedAt = (description.closeTime ?? new Date()).toISOString();
  const hostId = attributeOf(description, 'KilnHost');
  const state = terminatedState(last ?? (await recordedState(context, description)), closedAt, status, hostId);
  // Its workflow could write no result. Without a last known state there is too little to store for ever.
  if (last !== undefined) await context.archive.writeResult(state);
  return { state, origin: last === undefined ? 'temporal' : 'workflow' };
}

/** A workload that Temporal did not have a moment ago: forgotten, or about to be started. */
async function readUnknown(context: ClientContext, id: string): Promise<WorkloadSnapshot> {
  const archived = await context.archive.result(id);
  const spec = await context.archive.specDocument(id);
  const requestedImage = spec?.request.image ?? DEFAULT_IMAGE;
  if (archived !== undefined) {
    const host = archived.vm === undefined ? {} : { hostId: archived.vm.hostId };
    return { state: archived, requestedImage, ...host, origin: 'archive' };
  }
  if (spec === undefined) throw new KilnError('NOT_FOUND', `There is no workload ${id}.`, { id });
  const unstarted = unstartedState(spec);
  if (await context.archive.wasStarted(id)) {
    // The mark is written after the start: if the mark exists and Temporal still has no workflow, it has forgotten it.
    const description = await describe(context, id);
    if (description !== undefined) return readKnown(context, id, description);
    const state = terminatedState(unstarted, spec.requestedAt, 'FORGOTTEN');
    return { state, requestedImage, origin: 'request' };
  }
  return { state: unstarted, requestedImage, origin: 'request' };
}

/** @returns the workflow's own state, or undefined where no worker answers in time or the answer is not valid. */
async function queryState(
  context: ClientContext,
  { workflowId, runId }: WorkflowExecutionDescription,
): Promise<WorkloadState | undefined> {
  const handle = context.client.workflow.getHandle(workflowId, runId);
  try {
    const answer = await withDeadline(context.client, context.timings.queryMs, () => handle.query(workloadQuery));
    return parseState(answer);
  } catch {
    // Whatever prevents the query (no worker, a failing one, an old one), Temporal's own record still answers.
    return undefined;
  }
}

/** @returns the state in the result or the failure of a closed workflow, where there is one. */
async function stateFromClose(
  context: ClientContext,
  { workflowId, runId }: WorkflowExecutionDescription,
): Promise<WorkloadState | undefined> {
  const handle = context.client.workflow.getHandle(workflowId, runId);
  try {
    return parseState(await withDeadline(context.client, context.timings.callMs, () => handle.result()));
  } catch (error) {
    if (isUnavailable(error)) throw error;
    const cause = error instanceof WorkflowFailedError ? error.cause : undefined;
    if (cause instanceof ApplicationFailure || cause instanceof CancelledFailure) return parseState(cause.details?.[0]);
    return undefined;
  }
}

function parseState(value: unknown): WorkloadState | undefined {
  const parsed = workloadStateSchema.safeParse(value);
  return parsed.success ? parsed.data : undefined;
}

function snapshotFacts(description: WorkflowExecutionDescription): Omit<WorkloadSnapshot, 'state' | 'origin'> {
  const hostId = attributeOf(description, 'KilnHost');
  return {
    requestedImage: memoOf(description).image ?? DEFAULT_IMAGE,
    ...defined({ hostId }),
    execution: { workflowId: description.workflowId, executionId: description.runId },
  };
}
