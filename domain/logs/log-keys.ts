/** Where the chunks of a log lie in the object store, by the kind of its owner. */
import { storeKeys } from '../names.ts';
import type { LogRef } from '../owner.ts';

/** @returns the key of the chunk of a writer whose first line has that number */
export function logChunkKey(log: LogRef, writer: string, first: number): string {
  const { kind, id, epoch } = log;
  if (kind === 'workload') return storeKeys.logChunk(id, epoch, writer, first);
  return storeKeys.sessionLogChunk(id, epoch, writer, first);
}
