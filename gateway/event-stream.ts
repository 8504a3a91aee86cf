/** Answers with server-sent events: opened once every error of the request was answered as a problem. */
import type { ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';
import { problemOfError } from './problem-replies.ts';

export interface EventStreamOptions {
  /** How long a client is to wait before it comes back after a broken connection, ms. */
  readonly retryMs: number;
  /** Aborted when the gateway ends. */
  readonly ending: AbortSignal;
  /** Told of a stream that broke off, with the code of why. */
  readonly onBroken: (code: string) => void;
}

/**
 * Sends what `write` writes, then ends the stream. Where it throws, the last event is the problem.
 * @param write gets a signal that is aborted when the reader disconnects or the gateway ends
 */
export async function sendEvents(
  reply: FastifyReply,
  { retryMs, ending, onBroken }: EventStreamOptions,
  write: (response: ServerResponse, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  reply.hijack();
  const response = reply.raw;
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  // No `close` event comes for a client that has disconnected before this point.
  if (response.destroyed) gone.abort();
  // A broken connection ends in `close` as well.
  response.on('error', () => undefined);
  response.writeHead(200, {
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  });
  response.write(`retry: ${retryMs}\n\n`);
  try {
    await write(response, AbortSignal.any([gone.signal, ending]));
  } catch (error) {
    const found = problemOfError(error);
    onBroken(found.code);
    if (!response.destroyed) response.write(`event: problem\ndata: ${JSON.stringify(found)}\n\n`);
  } finally {
    response.end();
  }
}
