/** Work for a caller ends with him. */
import type { FastifyReply } from 'fastify';
import { KilnError } from '../domain/failures.ts';

/** The caller has left: nobody sees this. */
export class ReaderLeft extends KilnError {
  constructor() {
    super('CANCELLED', 'Nobody waits for this answer any more.');
  }
}

/**
 * @param ending aborted when the gateway ends
 * @returns a signal that is aborted once the connection of the caller, or his answer, is over: ReaderLeft; or when the
 *   gateway ends: API_UNAVAILABLE
 */
export function readerSignal({ raw }: Pick<FastifyReply, 'raw'>, ending: AbortSignal): AbortSignal {
  const gone = new AbortController();
  const leave = () => gone.abort(new ReaderLeft());
  const end = () => gone.abort(new KilnError('API_UNAVAILABLE', 'This gateway ends; ask again in a moment.'));
  if (raw.closed) leave();
  else raw.once('close', leave);
  if (ending.aborted) end();
  else ending.addEventListener('abort', end, { signal: gone.signal });
  return gone.signal;
}
