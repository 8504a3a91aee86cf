/** Output of runs in the store: chunks of whole frames, each named by the position of its first byte. */
import { KilnError } from '../../domain/failures.ts';
import { type SessionName, storeKeys } from '../../domain/names.ts';
import type { ExecOutput } from '../../ports/guest-agent.ts';
import type { ObjectStore } from '../object-store.ts';
import { behind, framesIn } from './output-frames.ts';
import { idSha256 } from './run-records.ts';

/** Largest chunk, bytes: what is gathered, and one more frame. */
const MAX_CHUNK_BYTES = 16 * 1024 * 1024;

/** A run in the VM that it ran in. */
export interface RunWithOutput {
  readonly session: SessionName;
  readonly runId: string;
  readonly vmId: string;
}

export interface RunOutputs {
  /** Writes a chunk of whole frames; the same chunk again changes nothing. */
  write(run: RunWithOutput, offset: number, frames: Buffer): Promise<void>;
  /** @returns the pieces behind a position, of one chunk; none where nothing follows in the store */
  read(run: RunWithOutput, after: number): Promise<readonly ExecOutput[]>;
}

/** @returns the outputs in a store. Every method @throws STORE_UNAVAILABLE, SESSION_CORRUPT */
export function createRunOutputs(store: Pick<ObjectStore, 'putBlob' | 'readBlob' | 'listAll'>): RunOutputs {
  return {
    async write({ session, runId, vmId }, offset, data) {
      await store.putBlob(storeKeys.runOutputChunk(session, idSha256(runId), vmId, offset), { data });
    },
    async read({ session, runId, vmId }, after) {
      const keys: string[] = [];
      for await (const { key } of store.listAll(storeKeys.runOutput(session, idSha256(runId), vmId))) keys.push(key);
      const isBehind = (key: string) => Number(key.slice(key.lastIndexOf('/') + 1)) > after;
      // The chunk that holds the position, or else the next one.
      for (const key of keys.slice(
        Math.max(
          0,
          keys.findLastIndex((each) => !isBehind(each)),
        ),
      )) {
        const { pieces } = framesIn(await store.readBlob(key, MAX_CHUNK_BYTES));
        if (pieces.length === 0)
          throw new KilnError('SESSION_CORRUPT', `A chunk of the output of run ${runId} is damaged.`);
        const rest = pieces.flatMap((piece) => behind(piece, after) ?? []);
        if (rest.length > 0) return rest;
      }
      return [];
    },
  };
}
