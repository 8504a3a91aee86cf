/** Which session a thread has now: read from its record, begun where there is none. */

import type { SessionSettingsRequest } from '../../../contracts/api/session-request.ts';
import { canonicalJson } from '../../../contracts/canonical-json.ts';
import { egressEntryOf } from '../../../contracts/service/service-manifest.ts';
import { assertReachable } from '../../../domain/egress/private-names.ts';
import { KilnError } from '../../../domain/failures.ts';
import type { SessionName, ThreadName } from '../../../domain/names.ts';
import { SESSION_DEFAULTS } from '../../../domain/policies.ts';
import {
  hasEnded,
  isBeingDeleted,
  type SessionRecord,
  type SessionSettings,
} from '../../../domain/session/session-record.ts';
import type { SessionClientContext } from './session-client-context.ts';

/** @throws NOT_FOUND where the thread never had a session */
export async function mustRead({ books }: SessionClientContext, name: ThreadName): Promise<SessionRecord> {
  const record = await books.sessions.read(name);
  if (record !== undefined) return record;
  throw new KilnError('NOT_FOUND', `There is no session of thread ${name.thread} in project ${name.project}.`);
}

/**
 * Finds or begins the session of a thread.
 * @throws SESSION_CLOSED, SESSION_EXPIRED where it has ended and `ifEnded` does not say otherwise; IMAGE_MISSING
 */
export async function openRecord(
  context: SessionClientContext,
  name: ThreadName,
  { settings = {}, ifEnded }: { settings?: SessionSettingsRequest; ifEnded?: 'restart' | undefined },
): Promise<SessionRecord> {
  const known = context.lately.get(name) ?? (await context.books.sessions.read(name));
  if (known !== undefined && known.end === undefined) {
    context.lately.set(known);
    return known;
  }
  if (known !== undefined && ifEnded !== 'restart') throw hasEnded(known, known);
  if (known !== undefined) await finishDeletion(context, known);
  const begun = await context.books.sessions.begin(name, {
    after: known?.incarnation ?? 0,
    settings: await settingsOf(context, settings),
    createdAt: new Date().toISOString(),
  });
  // Whoever was faster may have ended it again by now.
  if (begun.end !== undefined) throw hasEnded(begun, begun);
  context.lately.set(begun);
  return begun;
}

/** Removes what a deleted session has left, where that was begun and not done. @returns its record afterwards */
export async function finishDeletion(
  { books, lately }: SessionClientContext,
  record: SessionRecord,
): Promise<SessionRecord> {
  if (!isBeingDeleted(record)) return record;
  await books.remains.remove(nameOf(record));
  lately.forget(record);
  return books.sessions.emptied(nameOf(record), new Date().toISOString());
}

/** @returns whole settings. The digest of the image is resolved once, and stays. */
export async function settingsOf(
  { books, privateNames }: Pick<SessionClientContext, 'books' | 'privateNames'>,
  { image, resources, egress, tiers }: SessionSettingsRequest,
): Promise<SessionSettings> {
  const allowed = egressOf(egress ?? SESSION_DEFAULTS.egress, privateNames);
  return {
    image: await books.resolveImage(image ?? SESSION_DEFAULTS.image),
    resources: { ...SESSION_DEFAULTS.resources, ...resources },
    egress: allowed,
    tiers: { ...SESSION_DEFAULTS.tiers, ...tiers },
  };
}

/**
 * @returns entries with explicit ports, as hosts take them
 * @throws SPEC_INVALID where one has a port that guests cannot reach
 */
export function egressOf(asked: readonly string[], privateNames: readonly string[] | undefined): readonly string[] {
  const egress = asked.map(egressEntryOf);
  if (privateNames !== undefined) assertReachable(egress, privateNames);
  return egress;
}

/** @returns whether two settings are the same */
export function sameSettings(a: SessionSettings, b: SessionSettings): boolean {
  return canonicalJson(a) === canonicalJson(b);
}

export function nameOf({ project, thread, incarnation }: SessionRecord): SessionName {
  return { project, thread, incarnation };
}
