/** Server-sent events of the API, continued after a broken connection. */

import { setTimeout as delay } from 'node:timers/promises';
import type { EventSourceMessage } from 'eventsource-parser';
import { problemSchema } from '../../contracts/api/problem.ts';
import type { Route } from '../../contracts/api/routes/route.ts';
import { defined } from '../../domain/defined.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import { jsonOrUndefined } from '../../domain/json-or-undefined.ts';
import { type HttpClientOptions, problemOf, type RequestParts, send, unavailable } from './http-calls.ts';

export interface StreamTimings {
  /** Pause before a new connection replaces a broken one. */
  readonly retryMs: number;
  /** How long to reconnect without receiving an event or a keep-alive. */
  readonly giveUpAfterMs: number;
  /** A connection without a byte for this long counts as broken. The gateway sends a keep-alive at least every 25 s. */
  readonly silentMs: number;
}

export const STREAM_TIMINGS: StreamTimings = { retryMs: 500, giveUpAfterMs: 60_000, silentMs: 45_000 };

export type StreamMessage = Pick<EventSourceMessage, 'event' | 'data' | 'id'>;

/** A stream of the API whose events have positions, in the ids of their messages. */
export interface EventStream<Event> {
  readonly route: Route;
  readonly parts: RequestParts;
  /** Position to begin behind. */
  readonly after: string | undefined;
  /** @returns undefined for a kind that this version does not know. @throws KilnError where the message is not valid */
  readonly read: (message: StreamMessage) => Event | undefined;
  /** Whether nothing follows. */
  readonly isLast: (event: Event) => boolean;
}

/** Longest event accepted, UTF-16 units. */
const MAX_EVENT = 1024 * 1024;

/**
 * Yields events until the last one or until the signal is aborted; then it returns.
 * @throws KilnError with the code of the API's problem; API_UNAVAILABLE after `giveUpAfterMs`
 */
export async function* resumedEvents<Event>(
  client: HttpClientOptions,
  stream: EventStream<Event>,
  { retryMs, giveUpAfterMs, silentMs, signal }: StreamTimings & { readonly signal: AbortSignal | undefined },
): AsyncGenerator<Event, void> {
  let position = stream.after;
  let aliveAt = Date.now();
  const isAborted = () => signal?.aborted === true;
  const alive = (): void => {
    aliveAt = Date.now();
  };
  while (!isAborted()) {
    try {
      for await (const message of connection(client, stream, { position, signal, silentMs, alive })) {
        position = message.id ?? position;
        const event = stream.read(message);
        if (event === undefined) continue;
        yield event;
        if (stream.isLast(event)) return;
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
  readonly position: string | undefined;
  readonly signal: AbortSignal | undefined;
  readonly silentMs: number;
  /** Called for every chunk of bytes. */
  readonly alive: () => void;
}

async function* connection(
  client: HttpClientOptions,
  { route, parts }: Pick<EventStream<unknown>, 'route' | 'parts'>,
  { position, signal, silentMs, alive }: Connection,
): AsyncGenerator<StreamMessage, void> {
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
    const headers = { accept: 'text/event-stream', ...defined({ 'last-event-id': position }) };
    const reply = await send(client, route, parts, { signal: both, headers });
    if (reply.status !== 200 || reply.body === null) throw await problemOf(client, reply);
    alive();
    yield* reply.body
      .pipeThrough(new TextDecoderStream())
      .pipeThrough(heard)
      .pipeThrough(new EventSourceParserStream({ maxBufferSize: MAX_EVENT }));
  } finally {
    clearTimeout(watchdog);
    silence.abort();
  }
}

/** @throws the problem that the gateway tells of in the middle of a stream */
export function throwIfProblem({ event, data }: StreamMessage): void {
  if (event !== 'problem') return;
  const told = problemSchema.safeParse(jsonOrUndefined(data));
  throw told.success ? new KilnError(told.data.code, told.data.detail) : unexpectedEvent(event);
}

/** @returns the error of a message whose form this version does not know */
export function unexpectedEvent(event: string): KilnError {
  return new KilnError('INTERNAL', `A stream of the API holds a ${event} event of another version of Kiln.`);
}
