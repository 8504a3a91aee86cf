/**
 * Saves of sessions that are over: readable for some days, then deleted. A marker, `ended/<day>/<session>`, tells from
 * which day on, so that nobody lists all sessions for it.
 */
import { sideBySide } from '../../../concurrency/side-by-side.ts';
import { endedMarkerSchema } from '../../../contracts/store/session-documents.ts';
import { defined } from '../../../domain/defined.ts';
import { type SessionName, sessionNameOf, storeKeys } from '../../../domain/names.ts';
import type { ObjectStore } from '../../object-store.ts';
import { createSessionRecords } from '../session-records.ts';

export type EndedStore = Pick<ObjectStore, 'readDocument' | 'writeDocument' | 'list' | 'listAll' | 'delete'>;

/** A host that does not know of the end may upload for some time: so long a marker stays, and all is deleted again, ms. */
const LATE_MS = 7 * 24 * 3_600_000;
/** Deletes on their way at a time. */
const AT_ONCE = 8;

/** @returns the keys of markers whose day has come, the oldest first. @param after only those behind this key */
export async function* dueMarkers(
  store: EndedStore,
  nowMs: number,
  after: string | undefined,
): AsyncGenerator<string, undefined> {
  const last = storeKeys.endedOn(new Date(nowMs).toISOString());
  for await (const { key } of store.listAll(storeKeys.ended, defined({ after }))) {
    if (key > last && !key.startsWith(last)) return undefined;
    yield key;
  }
  return undefined;
}

/**
 * Deletes the saves of the session that a marker names, if it is over and its time has come. May be repeated, and
 * interrupted anywhere.
 * @param nowMs by the clock of the store
 * @returns how many objects were deleted. @throws STORE_UNAVAILABLE; STORE_CONFLICT where marker or record is damaged
 */
export async function removeEnded(
  store: EndedStore,
  marker: string,
  { nowMs, onProgress }: { readonly nowMs: number; readonly onProgress: () => void },
): Promise<number> {
  const session = sessionOf(marker);
  const deleteAfter = (await store.readDocument(marker, endedMarkerSchema))?.value.deleteAfter;
  if (session === undefined || deleteAfter === undefined || Date.parse(deleteAfter) > nowMs) return 0;
  const isLast = nowMs - Date.parse(deleteAfter) > LATE_MS;
  let removed = 0;
  if (await isOver(store, session, nowMs)) {
    // Without its head, a host that has claimed it uploads nothing more.
    for (const prefix of [storeKeys.saveHead(session), storeKeys.savePacks(session), storeKeys.saveTrees(session)]) {
      removed += await removeAll(store, prefix, onProgress);
    }
  }
  if (isLast) await store.delete(marker);
  return removed;
}

/** The marker is written before the end is: the record decides. */
async function isOver(store: EndedStore, session: SessionName, nowMs: number): Promise<boolean> {
  const record = await createSessionRecords(store).read(session);
  if (record === undefined || record.incarnation !== session.incarnation) {
    return record !== undefined && record.incarnation > session.incarnation;
  }
  return record.end !== undefined && Date.parse(record.deleteAfter ?? record.end.at) <= nowMs;
}

function sessionOf(marker: string): SessionName | undefined {
  const [, , ...name] = marker.split('/');
  return sessionNameOf(`session/${name.join('/')}`);
}

async function removeAll(store: EndedStore, prefix: string, onProgress: () => void): Promise<number> {
  const keys: string[] = [];
  for await (const { key } of store.listAll(prefix)) keys.push(key);
  await sideBySide(keys, AT_ONCE, async (key) => {
    onProgress();
    await store.delete(key);
  });
  return keys.length;
}
