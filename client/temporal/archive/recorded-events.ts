/** Turns fetched histories into the events that the projectors check. */
import type { WorkflowHandle } from '@temporalio/client';
import { z } from 'zod';
import type { SearchAttribute } from '../../../domain/names.ts';
import type { RecordedEvent } from '../../../domain/workload/projector.ts';

export type FetchedHistory = Awaited<ReturnType<WorkflowHandle['fetchHistory']>>;
/** Search attributes that hold the state of a workflow. */
type StateAttribute = Extract<SearchAttribute, 'KilnStage' | 'KilnTier'>;
type HistoryEvent = NonNullable<FetchedHistory['events']>[number];
type Payload = { readonly data?: Uint8Array | null };
type Payloads = { readonly payloads?: readonly Payload[] | null } | null;
type Fields = { readonly indexedFields?: Readonly<Record<string, Payload>> | null } | null;

/** The parts of a history event that concern stages, whether it was fetched or archived. */
export interface StageEvent {
  readonly workflowExecutionStartedEventAttributes?: { readonly searchAttributes?: Fields } | null;
  readonly upsertWorkflowSearchAttributesEventAttributes?: { readonly searchAttributes?: Fields } | null;
  readonly workflowExecutionCompletedEventAttributes?: { readonly result?: Payloads } | null;
  readonly workflowExecutionFailedEventAttributes?: {
    readonly failure?: { readonly applicationFailureInfo?: { readonly details?: Payloads } | null } | null;
  } | null;
  readonly workflowExecutionCanceledEventAttributes?: { readonly details?: Payloads } | null;
  readonly workflowExecutionTerminatedEventAttributes?: object | null;
  readonly workflowExecutionTimedOutEventAttributes?: object | null;
}

const tellsMoves = z.object({ moves: z.array(z.object({ to: z.unknown() })) });

/**
 * @param histories of the executions of one workflow, the first one first
 * @param attribute the search attribute that holds its state
 */
export function recordedEvents(
  histories: readonly FetchedHistory[],
  attribute: StateAttribute = 'KilnStage',
): RecordedEvent[] {
  return histories.flatMap(({ events }) =>
    (events ?? []).flatMap((event) => recordedEvent(event, isoTime(event.eventTime), attribute) ?? []),
  );
}

/** @param at ISO 8601, in milliseconds @returns undefined where the event does not concern the state */
export function recordedEvent(
  event: StageEvent,
  at: string,
  attribute: StateAttribute = 'KilnStage',
): RecordedEvent | undefined {
  const start = event.workflowExecutionStartedEventAttributes;
  if (start) return { kind: 'started', at, state: jsonValue(start.searchAttributes?.indexedFields?.[attribute]) };
  const fields = event.upsertWorkflowSearchAttributesEventAttributes?.searchAttributes?.indexedFields;
  if (fields) return attribute in fields ? { kind: 'moved', at, state: jsonValue(fields[attribute]) } : undefined;
  return closeEvent(event, at);
}

function closeEvent(event: StageEvent, at: string): RecordedEvent | undefined {
  const completed = event.workflowExecutionCompletedEventAttributes;
  if (completed) return { kind: 'closed', at, status: 'completed', ...told(completed.result) };
  const failed = event.workflowExecutionFailedEventAttributes;
  if (failed) return { kind: 'closed', at, status: 'failed', ...told(failed.failure?.applicationFailureInfo?.details) };
  const cancelled = event.workflowExecutionCanceledEventAttributes;
  if (cancelled) return { kind: 'closed', at, status: 'cancelled', ...told(cancelled.details) };
  if (event.workflowExecutionTerminatedEventAttributes) return { kind: 'closed', at, status: 'terminated' };
  if (event.workflowExecutionTimedOutEventAttributes) return { kind: 'closed', at, status: 'timed-out' };
  return undefined;
}

function told(given: Payloads | undefined): { told?: unknown[] } {
  const parsed = tellsMoves.safeParse(jsonValue(given?.payloads?.[0]));
  return parsed.success ? { told: parsed.data.moves.map(({ to }) => to) } : {};
}

/** @returns the value of a payload that the default converter has written as JSON. */
function jsonValue(payload: Payload | undefined): unknown {
  if (!payload?.data) return undefined;
  try {
    return JSON.parse(Buffer.from(payload.data).toString('utf8'));
  } catch {
    return undefined;
  }
}

function isoTime(time: HistoryEvent['eventTime']): string {
  return new Date(Number(time?.seconds ?? 0) * 1000 + Math.floor((time?.nanos ?? 0) / 1e6)).toISOString();
}
