import { describe, expect, it } from 'vitest';
import { KilnError } from '../../../domain/failures.ts';
import { storeKeys } from '../../../domain/names.ts';
import { createLogChunks } from '../../../store/logs/log-chunks.ts';

const ref = { workloadId: 'w', epoch: 1, writer: 'host' };
const TIMESTAMP = '2026-01-01T00:00:00.000Z';
const lineOf = (n: number) =>
  JSON.stringify({ timestamp: TIMESTAMP, stage: 'running', level: 'info', message: 'm', epoch: 1, writer: 'host', n });

/** A store of chunks with one entry each, all of the same length; `read` lists the entry numbers that were read. */
function storeOf(count: number) {
  const chunks = new Map(
    Array.from({ length: count }, (_, n) => [storeKeys.logChunk('w', 1, 'host', n), `${lineOf(n)}\n`]),
  );
  const read: number[] = [];
  return {
    read,
    chunkBytes: Buffer.byteLength(`${lineOf(0)}\n`),
    store: {
      list: () => Promise.reject(new Error('not asked for')),
      async *listAll(prefix: string, { after = '' }: { after?: string } = {}) {
        for (const key of chunks.keys())
          if (key.startsWith(prefix) && key > after) yield { key, bytes: 0, etag: '', modifiedMs: 0 };
      },
      async readBlob(key: string) {
        const text = chunks.get(key);
        if (text === undefined) throw new KilnError('NOT_FOUND', key);
        read.push(Number(/(\d+)\.jsonl$/.exec(key)?.[1]));
        return Buffer.from(text);
      },
    },
  };
}

describe('chunks that were read', () => {
  it('are not read again while there is room for them', async () => {
    const { store, read } = storeOf(3);
    const chunks = createLogChunks(store);
    const numbers = async () => (await chunks.tail(ref, 3)).entries.map(({ n }) => n);
    expect(await numbers()).toEqual([0, 1, 2]);
    expect(await numbers()).toEqual([0, 1, 2]);
    expect(read).toEqual([2, 1, 0]);
  });

  it('give way by their bytes, the one not used for longest first', async () => {
    const { store, read, chunkBytes } = storeOf(4);
    const chunks = createLogChunks(store, 2 * chunkBytes);
    const one = (n: number) => chunks.read(ref, { after: n - 1, limit: 1 });
    for (const n of [0, 1, 0, 2, 0, 1]) expect((await one(n)).map((entry) => entry.n)).toEqual([n]);
    expect(read).toEqual([0, 1, 2, 1]);
  });

  it('may be larger than all the room, or empty', async () => {
    const { store } = storeOf(1);
    const chunks = createLogChunks(store, 1);
    expect((await chunks.tail(ref, 1)).entries).toHaveLength(1);
    const empty = createLogChunks({ ...store, readBlob: async () => Buffer.alloc(0) });
    expect((await empty.tail(ref, 1)).entries).toEqual([]);
  });
});
