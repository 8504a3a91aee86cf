/** The log of a workload as it is written. */

import { z } from 'zod';
import { logEntrySchema } from '../../contracts/api/log-page.ts';
import { ROUTES } from '../../contracts/api/routes/route-table.ts';
import { stageSchema } from '../../contracts/identifiers.ts';
import { defined } from '../../domain/defined.ts';
import { jsonOrUndefined } from '../../domain/json-or-undefined.ts';
import type { LogEntry, LogFilter } from '../../domain/logs/log-entry.ts';
import type { Stage } from '../../domain/workload/stages.ts';
import {
  resumedEvents,
  STREAM_TIMINGS,
  type StreamMessage,
  type StreamTimings,
  throwIfProblem,
  unexpectedEvent,
} from './event-stream.ts';
import type { HttpClientOptions } from './http-calls.ts';

export type LogEvent =
  /** `cursor` continues after this entry. */
  | { readonly kind: 'log'; readonly cursor: string; readonly entry: LogEntry }
  /** The workload is over and every line was sent. Nothing follows. */
  | { readonly kind: 'end'; readonly stage: Stage };

/** With `stage` or `level`, only matching lines are returned. */
export interface LogStreamOptions extends LogFilter, Partial<StreamTimings> {
  /** Cursor to continue after. */
  readonly after?: string;
  readonly signal?: AbortSignal;
}

const endSchema = z.object({ stage: stageSchema });

/**
 * Yields events until the workload is over or the signal is aborted; then it returns.
 * @throws KilnError with the code of the API's problem; API_UNAVAILABLE after `giveUpAfterMs`
 */
export function logEvents(
  client: HttpClientOptions,
  id: string,
  { after, signal, stage, level, ...timings }: LogStreamOptions,
): AsyncGenerator<LogEvent, void> {
  const stream = {
    route: ROUTES.streamWorkloadLogs,
    parts: { params: { id }, query: defined({ stage, level }) },
    after,
    read: parseLogEvent,
    isLast: (event: LogEvent) => event.kind === 'end',
  };
  return resumedEvents(client, stream, { ...STREAM_TIMINGS, ...timings, signal });
}

/**
 * @returns the content of a stream event; undefined where this version does not know its kind
 * @throws the problem that the gateway sends; INTERNAL where the event has not the expected form
 */
export function parseLogEvent(message: StreamMessage): LogEvent | undefined {
  throwIfProblem(message);
  const data = jsonOrUndefined(message.data);
  if (message.event === 'log') {
    const entry = logEntrySchema.safeParse(data);
    if (entry.success && message.id !== undefined) return { kind: 'log', cursor: message.id, entry: entry.data };
    throw unexpectedEvent(message.event);
  }
  if (message.event !== 'end') return undefined;
  const end = endSchema.safeParse(data);
  if (end.success) return { kind: 'end', stage: end.data.stage };
  throw unexpectedEvent(message.event);
}
