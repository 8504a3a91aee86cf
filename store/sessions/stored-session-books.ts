import type { SessionBooks } from '../../ports/session-books.ts';
import type { ObjectStore } from '../object-store.ts';
import { createRunRecords } from './run-records.ts';
import { createRunRequests } from './run-requests.ts';
import { createSessionRecords } from './session-records.ts';
import { createSessionRemains } from './session-remains.ts';

/** @returns what clients of sessions need of a store */
export function createStoredSessionBooks(store: ObjectStore, resolveImage: SessionBooks['resolveImage']): SessionBooks {
  return {
    sessions: createSessionRecords(store),
    runs: createRunRecords(store),
    requests: createRunRequests(store),
    remains: createSessionRemains(store),
    resolveImage,
  };
}
