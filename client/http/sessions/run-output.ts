/** The output of a run as it is written, in pieces of bytes. */

import { ROUTES } from '../../../contracts/api/routes/route-table.ts';
import { gapEventSchema, outputEventSchema } from '../../../contracts/api/run-output.ts';
import { type RunView, runViewSchema } from '../../../contracts/api/session-view.ts';
import { defined } from '../../../domain/defined.ts';
import { jsonOrUndefined } from '../../../domain/json-or-undefined.ts';
import {
  resumedEvents,
  STREAM_TIMINGS,
  type StreamMessage,
  type StreamTimings,
  throwIfProblem,
  unexpectedEvent,
} from '../event-stream.ts';
import type { HttpClientOptions } from '../http-calls.ts';

/** Positions (`offset`) count the bytes of both streams together. */
export type RunOutputEvent =
  | {
      readonly kind: 'output';
      readonly stream: 'stdout' | 'stderr';
      readonly offset: number;
      readonly bytes: Uint8Array;
    }
  /** Output that was dropped or lost. */
  | { readonly kind: 'gap'; readonly offset: number; readonly bytes: number }
  /** The run is over and all its output was sent. Nothing follows. */
  | { readonly kind: 'end'; readonly run: RunView };

export interface RunOutputOptions extends Partial<StreamTimings> {
  readonly project?: string;
  /** Position behind the last byte that is known already. */
  readonly after?: number;
  readonly signal?: AbortSignal;
}

/**
 * Yields events until the run is over or the signal is aborted; then it returns. May begin before the run does.
 * @throws KilnError with the code of the API's problem; API_UNAVAILABLE after `giveUpAfterMs`
 */
export function runOutputEvents(
  client: HttpClientOptions,
  { thread, id }: { readonly thread: string; readonly id: string },
  { project, after, signal, ...timings }: RunOutputOptions,
): AsyncGenerator<RunOutputEvent, void> {
  const stream = {
    route: ROUTES.streamRunOutput,
    parts: { params: { thread, id }, query: defined({ project }) },
    after: after?.toString(),
    read: parseRunOutputEvent,
    isLast: (event: RunOutputEvent) => event.kind === 'end',
  };
  return resumedEvents(client, stream, { ...STREAM_TIMINGS, ...timings, signal });
}

/**
 * @returns the content of a stream event; undefined where this version does not know its kind
 * @throws the problem that the gateway sends; INTERNAL where the event has not the expected form
 */
export function parseRunOutputEvent(message: StreamMessage): RunOutputEvent | undefined {
  throwIfProblem(message);
  const data = jsonOrUndefined(message.data);
  switch (message.event) {
    case 'output': {
      const { stream, offset, base64 } = checked(outputEventSchema.safeParse(data), message.event);
      return { kind: 'output', stream, offset, bytes: Buffer.from(base64, 'base64') };
    }
    case 'gap':
      return { kind: 'gap', ...checked(gapEventSchema.safeParse(data), message.event) };
    case 'end':
      return { kind: 'end', run: checked(runViewSchema.safeParse(data), message.event) };
    default:
      return undefined;
  }
}

function checked<T>(parsed: { success: true; data: T } | { success: false }, event: string): T {
  if (parsed.success) return parsed.data;
  throw unexpectedEvent(event);
}
