/** Removes logs of workloads that ended long ago; everything else stays. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { defined } from '../../domain/defined.ts';
import { storeKeys } from '../../domain/names.ts';
import type { Stage } from '../../domain/workload/stages.ts';
import { listLogWriters, readLogEntries } from '../../store/logs/log-chunks.ts';
import { pruneLogs } from '../../store/logs/log-pruning.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { createWorkloadDocuments } from '../../store/workloads/workload-documents.ts';
import { freshObjectStore } from '../support/servers/object-store.ts';

const NOW = Date.parse('2026-06-01T00:00:00.000Z');
const KEEP = { keepMs: 1_000, now: NOW };
let store: ObjectStore;
beforeAll(async () => {
  store = await freshObjectStore();
});
afterAll(() => store.close());

/** A workload with two log chunks; without a stage, its end was never written. */
async function logged(workloadId: string, stage?: Stage, ageMs = 0): Promise<void> {
  for (const n of [0, 1]) {
    const entry = { timestamp: at(0), stage: 'build', message: `line ${n}`, level: 'info', epoch: 1, writer: 'h1', n };
    await store.putBlob(storeKeys.logChunk(workloadId, 1, 'h1', n), {
      data: Buffer.from(`${JSON.stringify(entry)}\n`),
    });
  }
  if (stage === undefined) return;
  await createWorkloadDocuments(store).writeResult({
    workloadId,
    servicePath: 'a',
    stage,
    notes: [],
    unreleased: [],
    moves: [],
    createdAt: at(ageMs),
    updatedAt: at(ageMs),
  });
}
const at = (ageMs: number) => new Date(NOW - ageMs).toISOString();
const lines = async (workloadId: string) =>
  (await readLogEntries(store, { workloadId, epoch: 1, writer: 'h1' }, { after: -1, limit: 10 })).length;

test('logs go once their workload is over for long enough, in steps of any size, and repeating does nothing', async () => {
  await logged('a-old', 'stopped', 5_000);
  await logged('b-new', 'failed', 500);
  await logged('c-open');
  await logged('d-old', 'failed', 5_000);
  const first = await pruneLogs(store, { ...KEEP, maxWorkloads: 3 });
  expect(first).toMatchObject({ seen: 3, removed: 1, objects: 2 });
  expect(await lines('d-old')).toBe(2);
  const second = await pruneLogs(store, { ...KEEP, ...defined({ after: first.next }) });
  expect(second).toMatchObject({ seen: 1, removed: 1, objects: 2 });
  expect(second.next).toBeUndefined();
  expect(await Promise.all(['a-old', 'b-new', 'c-open', 'd-old'].map(lines))).toEqual([0, 2, 2, 0]);
  expect(await listLogWriters(store, 'a-old')).toEqual([]);
  expect(await createWorkloadDocuments(store).result('a-old')).toMatchObject({ stage: 'stopped' });
  expect(await pruneLogs(store, KEEP)).toEqual({ seen: 2, removed: 0, objects: 0, bytes: 0 });
});

test('what was cut off in the middle is gone on with', async () => {
  await logged('e-old', 'stopped', 5_000);
  await logged('f-old', 'stopped', 5_000);
  const cut = () => {
    throw new Error('the worker has ended');
  };
  await expect(pruneLogs(store, { ...KEEP, onProgress: cut })).rejects.toThrow('ended');
  await pruneLogs(store, KEEP);
  expect(await Promise.all(['e-old', 'f-old'].map(lines))).toEqual([0, 0]);
});

test('a chunk that is removed while its log is read is left out', async () => {
  await logged('g-read');
  const between: ObjectStore = Object.create(store, {
    readBlob: {
      value: async (key: string, maxBytes: number) => {
        await store.delete(storeKeys.logChunk('g-read', 1, 'h1', 0));
        return store.readBlob(key, maxBytes);
      },
    },
  });
  const ref = { workloadId: 'g-read', epoch: 1, writer: 'h1' };
  expect((await readLogEntries(between, ref, { after: -1, limit: 10 })).map(({ n }) => n)).toEqual([1]);
});
