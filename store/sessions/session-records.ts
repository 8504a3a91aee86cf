/** `session.json` of threads: which incarnation lives, with which settings, or how the last one ended. */
import { sessionRecordSchema } from '../../contracts/store/session-documents.ts';
import { KilnError } from '../../domain/failures.ts';
import { type SessionName, storeKeys, type ThreadName } from '../../domain/names.ts';
import type { SessionEnd, SessionRecord, SessionSettings } from '../../domain/session/session-record.ts';
import type { ObjectStore, StoredDocument } from '../object-store.ts';

export interface SessionRecords {
  /** @returns undefined for a thread that never was. */
  read(name: ThreadName): Promise<SessionRecord | undefined>;
  /**
   * Begins the first incarnation of a thread, or the next one after the one that has ended.
   * @param after the incarnation that must have ended; 0 for the first
   * @returns the record that is there now: ours, or the one of whoever was first. Its incarnation is above `after`
   * @throws CONFLICT where incarnation `after` has not ended
   */
  begin(
    name: ThreadName,
    begun: { after: number; settings: SessionSettings; createdAt: string },
  ): Promise<SessionRecord>;
  /** Replaces the settings of an incarnation that lives. @throws SESSION_CLOSED, SESSION_EXPIRED, NOT_FOUND */
  change(name: SessionName, change: (settings: SessionSettings) => SessionSettings): Promise<SessionRecord>;
  /**
   * Notes the end of an incarnation, once: a second end changes nothing.
   * @returns the record as it is now, perhaps of a later incarnation. @throws NOT_FOUND
   */
  end(name: SessionName, end: SessionEnd): Promise<SessionRecord>;
}

/** @returns the records in a store. Every method @throws STORE_UNAVAILABLE, and STORE_CONFLICT for a damaged record. */
export function createSessionRecords(store: Pick<ObjectStore, 'readDocument' | 'writeDocument'>): SessionRecords {
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
        const incarnation = (latest?.incarnation ?? 0) + 1;
        return { schemaVersion: 1, project, thread, incarnation, settings, createdAt };
      }),
    change: (name, change) =>
      update(name, (present) => {
        const record = mustBe(name, present?.value);
        if (record.incarnation !== name.incarnation || record.end !== undefined) throw hasEnded(name, record);
        return { ...record, settings: change(record.settings) };
      }),
    end: (name, end) =>
      update(name, (present) => {
        const record = mustBe(name, present?.value);
        return record.incarnation !== name.incarnation || record.end !== undefined ? record : { ...record, end };
      }),
  };
}

/** Writers of one record are few: whoever creates the thread, changes its settings or ends it. */
const MAX_TRIES = 20;

function mustBe(name: SessionName, record: SessionRecord | undefined): SessionRecord {
  if (record !== undefined && record.incarnation >= name.incarnation) return record;
  throw new KilnError('NOT_FOUND', `There is no session ${name.incarnation} of thread ${name.thread}.`);
}

function stillOpen({ thread, incarnation }: SessionRecord): KilnError {
  return new KilnError('CONFLICT', `Session ${incarnation} of thread ${thread} has not ended.`, { incarnation });
}

/** @returns the failure that tells a caller that an incarnation is over: 410 with how, when and its last turn */
export function hasEnded({ thread, incarnation }: SessionName, record: SessionRecord): KilnError {
  const end = record.incarnation === incarnation ? record.end : undefined;
  const code = end?.as === 'expired' ? 'SESSION_EXPIRED' : 'SESSION_CLOSED';
  const how = end === undefined ? 'has ended' : `was ${end.as} at ${end.at}: ${end.cause}`;
  const fix = 'A run with ifEnded "restart" begins a new one.';
  const details = end === undefined ? {} : { as: end.as, at: end.at, cause: end.cause, lastTurn: end.lastTurn };
  return new KilnError(code, `The session of thread ${thread} ${how}. ${fix}`, details);
}
