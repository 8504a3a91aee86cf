/** Keys of log chunks in the object store, by the kind of their owner. */
import { storeKeys } from '../names.ts';
import type { LogRef } from '../owner.ts';

/** @returns the key of a writer's chunk whose first line has the number `first` */
export function logChunkKey(log: LogRef, writer: string, first: number): string {
  const { kind, id, epoch } = log;
  if (kind === 'workload') return storeKeys.logChunk(id, epoch, writer, first);
  return storeKeys.sessionLogChunk(id, epoch, writer, first);
}
