/** The log of a workload as it is written: server-sent events, continued after a broken connection. */

import { setTimeout as delay } from 'node:timers/promises';
import type { EventSourceMessage } from 'eventsource-parser';
import { z } from 'zod';
import { logEntrySchema } from '../../contracts/api/log-page.ts';
import { problemSchema } from '../../contracts/api/problem.ts';
import { ROUTES } from '../../contracts/api/routes/route-table.ts';
import { stageSchema } from '../../contracts/identifiers.ts';
import { defined } from '../../domain/defined.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import { jsonOrUndefined } from '../../domain/json-or-undefined.ts';
import type { LogEntry, LogFilter } from '../../domain/logs/log-entry.ts';
import type { Stage } from '../../domain/workload/stages.ts';
import { type HttpClientOptions, problemOf, send, unavailable } from './http-calls.ts';

export type LogEvent =
  /** `cursor` continues after this entry. */
  | { readonly kind: 'log'; readonly cursor: string; readonly entry: LogEntry }
  /** The workload is over and every line was sent. Nothing follows. */
  | { readonly kind: 'end'; readonly stage: Stage };

/** With `stage` or `level`, only matching lines are returned. */
export interface LogStreamOptions extends LogFilter {
  /** Cursor to continue after. */
  readonly after?: string;
  readonly signal?: AbortSignal;
  /** Pause before a new connection replaces a broken one. */
  readonly retryMs?: number;
  /** How long to reconnect without receiving a line or a keep-alive. */
  readonly giveUpAfterMs?: number;
  /** A connection without a byte for this long counts as broken. The gateway sends a keep-alive every 15 s. */
  readonly silentMs?: number;
}

const DEFAULTS = { retryMs: 500, giveUpAfterMs: 60_000, silentMs: 45_000 };
/** Longest event accepted, UTF-16 units. */
const MAX_EVENT = 1024 * 1024;
const endSchema = z.object({ stage: stageSchema });

/**
 * Yields events until the workload is over or the signal is aborted; then it returns.
 * @throws KilnError with the code of the API's problem; API_UNAVAILABLE after `giveUpAfterMs`
 */
export async function* logEvents(
  client: HttpClientOptions,
  id: string,
  options: LogStreamOptions,
): AsyncGenerator<LogEvent, void> {
  const { retryMs, giveUpAfterMs, silentMs } = { ...DEFAULTS, ...options };
  const { signal, stage, level } = options;
  const query = defined({ stage, level });
  let cursor = options.after;
  let aliveAt = Date.now();
  const isAborted = () => signal?.aborted === true;
  while (!isAborted()) {
    try {
      const alive = (): void => {
        aliveAt = Date.now();
      };
      for await (const event of connection(client, id, { query, cursor, signal, silentMs, alive })) {
        if (event.kind === 'log') cursor = event.cursor;
        yield event;
        if (event.kind === 'end') return;
      }
    } catch (error) {
      if (isAborted()) return;
      const known = isKilnError(error) ? error : unavailable(client, error);
      if (!known.retryable || Date.now() - aliveAt >= giveUpAfterMs) throw known;
    }
    await delay(retryMs, undefined, defined({ signal })).catch(() => undefined);
  }
}

interface Connection {
  readonly query: LogFilter;
  readonly cursor: string | undefined;
  readonly signal: AbortSignal | undefined;
  readonly silentMs: number;
  /** Called for every chunk of bytes. */
  readonly alive: () => void;
}

async function* connection(
  client: HttpClientOptions,
  id: string,
  { query, cursor, signal, silentMs, alive }: Connection,
): AsyncGenerator<LogEvent, void> {
  // Loaded here: the package is an ES module only; to `require` one needs a newer Node.js than this client does.
  const { EventSourceParserStream } = await import('eventsource-parser/stream');
  const silence = new AbortController();
  const broken = (): void =>
    silence.abort(new KilnError('API_UNAVAILABLE', `The API at ${client.apiUrl} fell silent.`));
  const watchdog = setTimeout(broken, silentMs);
  const both = signal === undefined ? silence.signal : AbortSignal.any([signal, silence.signal]);
  const heard = new TransformStream<string, string>({
    transform(text, controller) {
      watchdog.refresh();
      alive();
      controller.enqueue(text);
    },
  });
  try {
    const headers = { accept: 'text/event-stream', ...defined({ 'last-event-id': cursor }) };
    const reply = await send(
      client,
      ROUTES.streamWorkloadLogs,
      { params: { id }, query: { ...query } },
      { signal: both, headers },
    );
    if (reply.status !== 200 || reply.body === null) throw await problemOf(client, reply);
    alive();
    const events = reply.body
      .pipeThrough(new TextDecoderStream())
      .pipeThrough(heard)
      .pipeThrough(new EventSourceParserStream({ maxBufferSize: MAX_EVENT }));
    for await (const message of events) {
      const event = parseLogEvent(message);
      if (event !== undefined) yield event;
    }
  } finally {
    clearTimeout(watchdog);
    silence.abort();
  }
}

/**
 * @returns the content of a stream event; undefined where this version does not know its kind
 * @throws the problem that the gateway sends; INTERNAL where the event has not the expected form
 */
export function parseLogEvent(message: Pick<EventSourceMessage, 'event' | 'data' | 'id'>): LogEvent | undefined {
  const data = jsonOrUndefined(message.data);
  if (message.event === 'log') {
    const entry = logEntrySchema.safeParse(data);
    if (entry.success && message.id !== undefined) return { kind: 'log', cursor: message.id, entry: entry.data };
    throw unexpected(message.event);
  }
  if (message.event === 'end') {
    const end = endSchema.safeParse(data);
    if (end.success) return { kind: 'end', stage: end.data.stage };
    throw unexpected(message.event);
  }
  if (message.event !== 'problem') return undefined;
  const told = problemSchema.safeParse(data);
  throw told.success ? new KilnError(told.data.code, told.data.detail) : unexpected(message.event);
}

function unexpected(event: string): KilnError {
  return new KilnError('INTERNAL', `The log stream holds a ${event} event of another version of Kiln.`);
}
