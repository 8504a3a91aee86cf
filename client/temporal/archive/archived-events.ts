/**
 * Turns archived histories, which are JSON, into the events that the projector checks. Its own schemas read the few
 * fields that it needs: data that is years old must not depend on the internals of a library.
 */
import { z } from 'zod';
import { KilnError } from '../../../domain/failures.ts';
import type { RecordedEvent } from '../../../domain/workload/projector.ts';
import { recordedEvent } from './recorded-events.ts';
import type { ArchivedExecution } from './workload-archive.ts';

const payload = z.object({
  data: z
    .string()
    .transform((text) => Buffer.from(text, 'base64'))
    .exactOptional(),
});
const fields = z.object({ indexedFields: z.record(z.string(), payload).exactOptional() }).exactOptional();
const payloads = z.object({ payloads: z.array(payload).exactOptional() }).exactOptional();

const eventSchema = z.object({
  // Nanoseconds are cut off.
  eventTime: z.iso.datetime().transform((text) => new Date(text.replace(/(\.\d{3})\d+/, '$1')).toISOString()),
  workflowExecutionStartedEventAttributes: z
    .object({ searchAttributes: fields, continuedExecutionRunId: z.string().exactOptional() })
    .exactOptional(),
  upsertWorkflowSearchAttributesEventAttributes: z.object({ searchAttributes: fields }).exactOptional(),
  workflowExecutionCompletedEventAttributes: z.object({ result: payloads }).exactOptional(),
  workflowExecutionFailedEventAttributes: z
    .object({
      failure: z.object({ applicationFailureInfo: z.object({ details: payloads }).exactOptional() }).exactOptional(),
    })
    .exactOptional(),
  workflowExecutionCanceledEventAttributes: z.object({ details: payloads }).exactOptional(),
  workflowExecutionTerminatedEventAttributes: z.object({}).exactOptional(),
  workflowExecutionTimedOutEventAttributes: z.object({}).exactOptional(),
});
const historySchema = z.object({ events: z.array(eventSchema) });

/**
 * @param executions of one workload, the first one first
 * @returns the events, after checking that each execution is complete and follows the one before it
 * @throws ARCHIVE_CORRUPT
 */
export function archivedEvents(workloadId: string, executions: readonly ArchivedExecution[]): RecordedEvent[] {
  const recorded: RecordedEvent[] = [];
  let before: string | undefined;
  for (const { executionId, events, history } of executions) {
    const parsed = historySchema.safeParse(history);
    if (!parsed.success) throw corrupt(workloadId, `${executionId} is no history`);
    const [first] = parsed.data.events;
    if (parsed.data.events.length !== events) throw corrupt(workloadId, `${executionId} has other events`);
    const start = first?.workflowExecutionStartedEventAttributes;
    if ((start?.continuedExecutionRunId || undefined) !== before) {
      throw corrupt(workloadId, `${executionId} does not follow the one before it`);
    }
    recorded.push(...parsed.data.events.flatMap((event) => recordedEvent(event, event.eventTime) ?? []));
    before = executionId;
  }
  return recorded;
}

/** @returns the error for an archive that differs from what was recorded. */
export function corrupt(workloadId: string, what: string): KilnError {
  return new KilnError('ARCHIVE_CORRUPT', `The archived history of ${workloadId} is not what was recorded: ${what}.`, {
    workloadId,
  });
}
