/** The output of a run as text, whole characters at a time. */
import type { RunView } from '../../../contracts/api/session-view.ts';
import type { RunOutputEvent } from './run-output.ts';

/** A piece of one stream, or output that is not there any more. */
export type RunChunk =
  | {
      readonly stream: 'stdout' | 'stderr';
      /** `bytes` as UTF-8; a character that they begin comes whole with the chunk that ends it. */
      readonly text: string;
      readonly bytes: Uint8Array;
      readonly gap?: never;
    }
  | {
      /** Bytes that were dropped or lost; `offset` counts those of both streams together. */
      readonly gap: { readonly offset: number; readonly bytes: number };
      readonly stream?: never;
      readonly text?: never;
      readonly bytes?: never;
    };

const NO_BYTES = new Uint8Array(0);

/**
 * Yields the chunks of the events. What is cut off by a gap or by the end is shown as U+FFFD.
 * @param onEnd called with the run once it is over
 */
export async function* chunksOf(
  events: AsyncIterable<RunOutputEvent>,
  onEnd: (run: RunView) => void,
): AsyncGenerator<RunChunk, void> {
  const decoders = { stdout: utf8(), stderr: utf8() };
  for await (const event of events) {
    if (event.kind === 'output') {
      const { stream, bytes } = event;
      yield { stream, text: decoders[stream].decode(bytes, { stream: true }), bytes };
      continue;
    }
    for (const stream of ['stdout', 'stderr'] as const) {
      const text = decoders[stream].decode();
      if (text !== '') yield { stream, text, bytes: NO_BYTES };
    }
    if (event.kind === 'end') onEnd(event.run);
    else yield { gap: { offset: event.offset, bytes: event.bytes } };
  }
}

/** A byte order mark is output like any other. */
function utf8() {
  return new TextDecoder('utf-8', { ignoreBOM: true });
}
