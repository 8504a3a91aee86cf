/** Ends of runs: one document for each, named by the SHA-256 of the caller's id. */
import { createHash } from 'node:crypto';
import { runRecordSchema } from '../../contracts/store/session-documents.ts';
import { storeKeys, type ThreadName } from '../../domain/names.ts';
import type { RunRecord, RunRecords } from '../../ports/session-books.ts';
import type { ListedObject, ObjectStore } from '../object-store.ts';
import { writeOnce } from '../write-once.ts';

/** The last turn is among the documents that were written last: ends are written in order, some at a time. */
const LAST_WRITTEN = 50;

/** @returns the records in a store. Every method @throws STORE_UNAVAILABLE, and STORE_CONFLICT for a damaged record. */
export function createRunRecords(store: Pick<ObjectStore, 'readDocument' | 'writeDocument' | 'listAll'>): RunRecords {
  const readKey = async (key: string) => (await store.readDocument(key, runRecordSchema))?.value;
  const all = async (name: ThreadName) => {
    const objects: ListedObject[] = [];
    for await (const object of store.listAll(storeKeys.runs(name))) objects.push(object);
    return objects;
  };
  const turnOf = async ({ key }: ListedObject) => (await readKey(key))?.run.turn ?? 0;
  return {
    read: (name, runId) => readKey(storeKeys.run(name, idSha256(runId))),
    async write(name, run) {
      const { incarnation } = name;
      return writeOnce(store, storeKeys.run(name, idSha256(run.id)), { schemaVersion: 1, incarnation, run });
    },
    async last(name, limit) {
      const newest = newestFirst(await all(name)).slice(0, limit);
      const read = await Promise.all(newest.map(({ key }) => readKey(key)));
      const byEnd = (a: RunRecord, b: RunRecord) => b.run.endedAt.localeCompare(a.run.endedAt);
      return read.filter((record) => record !== undefined).sort(byEnd);
    },
    async used(name) {
      const objects = await all(name);
      const last = newestFirst(objects).slice(0, LAST_WRITTEN);
      const turns = await Promise.all(last.map(turnOf));
      return { ids: objects.map(({ key }) => idOf(key)), lastTurn: Math.max(0, ...turns) };
    },
  };
}

/** @returns the name of a run in the store */
export function idSha256(runId: string): string {
  return createHash('sha256').update(runId).digest('hex');
}

function newestFirst(objects: readonly ListedObject[]): ListedObject[] {
  return [...objects].sort((a, b) => b.modifiedMs - a.modifiedMs);
}

function idOf(key: string): string {
  return key.slice(key.lastIndexOf('/') + 1, -'.json'.length);
}
