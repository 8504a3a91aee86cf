/** Deletes sessions, with everything that their threads had. */
import type { ThreadName } from '../../../domain/names.ts';
import { closeSession } from './end-session.ts';
import type { SessionSnapshot } from './read-session.ts';
import type { SessionClientContext } from './session-client-context.ts';
import { finishDeletion, mustRead, nameOf } from './session-names.ts';

/**
 * Idempotent: what an earlier call has left is removed by the next one.
 * @returns `settled`: whether it was closed in time, and is deleted
 * @throws NOT_FOUND, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE
 */
export async function deleteSession(
  context: SessionClientContext,
  name: ThreadName,
  how: { waitMs: number; by?: string },
): Promise<{ snapshot: SessionSnapshot; settled: boolean }> {
  const before = await mustRead(context, name);
  const closed = await closeSession(context, name, how);
  if (!closed.settled) return closed;
  const { record } = closed.snapshot;
  // Somebody has begun the next one meanwhile: that one was not meant.
  if (record.incarnation !== before.incarnation) return { snapshot: { record: before }, settled: true };
  const marked = await context.books.sessions.delete(nameOf(record), new Date().toISOString());
  return { snapshot: { record: await finishDeletion(context, marked) }, settled: true };
}
