/** `session.json` of threads: which incarnation lives, with which settings, or how the last one ended. */
import { sessionRecordSchema } from '../../contracts/store/session-documents.ts';
import { KilnError } from '../../domain/failures.ts';
import { type SessionName, storeKeys, type ThreadName } from '../../domain/names.ts';
import { hasEnded, isBeingDeleted, type SessionRecord } from '../../domain/session/session-record.ts';
import type { SessionRecords } from '../../ports/session-books.ts';
import type { ObjectStore, StoredDocument } from '../object-store.ts';

/** Saves of a session stay readable for so long after its end, ms. */
const KEEP_ENDED_MS = 7 * 24 * 3_600_000;

/** @returns the records in a store. Every method @throws STORE_UNAVAILABLE, and STORE_CONFLICT for a damaged record. */
export function createSessionRecords(
  store: Pick<ObjectStore, 'readDocument' | 'writeDocument'>,
  { keepEndedMs = KEEP_ENDED_MS }: { readonly keepEndedMs?: number } = {},
): SessionRecords {
  const find = (name: ThreadName) => store.readDocument(storeKeys.session(name), sessionRecordSchema);

  /** Writes what `next` makes of the present record, again where another writer was faster. */
  const update = async (
    name: ThreadName,
    next: (present: StoredDocument<SessionRecord> | undefined) => SessionRecord,
  ): Promise<SessionRecord> => {
    for (let tries = 1; ; tries++) {
      const present = await find(name);
      const record = next(present);
      if (record === present?.value) return record;
      try {
        await store.writeDocument(storeKeys.session(name), record, present ? { etag: present.etag } : 'create');
        return record;
      } catch (error) {
        if (tries >= MAX_TRIES || !(error instanceof KilnError) || error.code !== 'STORE_CONFLICT') throw error;
      }
    }
  };

  return {
    read: async (name) => (await find(name))?.value,
    begin: ({ project, thread }, { after, settings, createdAt }) =>
      update({ project, thread }, (present) => {
        const latest = present?.value;
        if (latest !== undefined && latest.incarnation > after) return latest;
        if (latest !== undefined && latest.end === undefined) throw stillOpen(latest);
        if (latest !== undefined && isBeingDeleted(latest)) throw beingDeleted(latest);
        const incarnation = (latest?.incarnation ?? 0) + 1;
        return { schemaVersion: 1, project, thread, incarnation, settings, createdAt };
      }),
    change: (name, change) =>
      update(name, (present) => {
        const record = mustBe(name, present?.value);
        if (record.incarnation !== name.incarnation || record.end !== undefined) throw hasEnded(name, record);
        return { ...record, settings: change(record.settings) };
      }),
    async end(name, end) {
      const deleteAfter = new Date(Date.parse(end.at) + keepEndedMs).toISOString();
      // First, so that no ended session is without one; it says nothing before the record agrees.
      await store.writeDocument(storeKeys.endedMarker(name, deleteAfter), { schemaVersion: 1, deleteAfter });
      return await update(name, (present) => {
        const record = mustBe(name, present?.value);
        const isOver = record.incarnation !== name.incarnation || record.end !== undefined;
        return isOver ? record : { ...record, end, deleteAfter };
      });
    },
    delete: (name, at) =>
      update(name, (present) => {
        const record = mustBe(name, present?.value);
        if (record.incarnation !== name.incarnation || record.end?.as === 'deleted') return record;
        const lastTurn = record.end?.lastTurn ?? 0;
        return { ...record, end: { as: 'deleted', at, cause: 'DELETE_ASKED', lastTurn } };
      }),
    emptied: (name, at) =>
      update(name, (present) => {
        const record = mustBe(name, present?.value);
        if (record.incarnation !== name.incarnation || record.end === undefined || !isBeingDeleted(record))
          return record;
        return { ...record, end: { ...record.end, emptiedAt: at } };
      }),
  };
}

/** Writers of one record are few: whoever creates the thread, changes its settings or ends it. */
const MAX_TRIES = 20;

function mustBe(name: SessionName, record: SessionRecord | undefined): SessionRecord {
  if (record !== undefined && record.incarnation >= name.incarnation) return record;
  throw new KilnError('NOT_FOUND', `There is no session ${name.incarnation} of thread ${name.thread}.`);
}

function beingDeleted({ thread }: SessionRecord): KilnError {
  return new KilnError('CONFLICT', `What thread ${thread} had is being deleted. Repeat the call.`);
}

function stillOpen({ thread, incarnation }: SessionRecord): KilnError {
  return new KilnError('CONFLICT', `Session ${incarnation} of thread ${thread} has not ended.`, { incarnation });
}
