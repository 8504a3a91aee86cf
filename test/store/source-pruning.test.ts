/** Uploaded sources are removed when nobody needs them any more; a use at any moment in between keeps them. */

import { createHash, randomUUID } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { canonicalHash } from '../../contracts/canonical-json.ts';
import { defined } from '../../domain/defined.ts';
import { storeKeys } from '../../domain/names.ts';
import type { Stage } from '../../domain/workload/stages.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { type PruneSourcesOptions, pruneSources } from '../../store/sources/source-pruning.ts';
import { createSources } from '../../store/sources/sources.ts';
import { createWorkloadDocuments } from '../../store/workloads/workload-documents.ts';
import { freshObjectStore } from '../support/servers/object-store.ts';

const HOUR = 3_600_000;
let store: ObjectStore;
let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kiln-prune-'));
});
beforeEach(async () => {
  store = await freshObjectStore();
  return () => store.close();
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** Long after everything that these tests create. */
const LATER = Date.now() + 1_000 * HOUR;
const prune = (more: Partial<PruneSourcesOptions> = {}) =>
  pruneSources(store, { keepMs: 100 * HOUR, graceMs: HOUR, now: LATER, maxSources: 100, ...more });
const afterGrace = { now: LATER + 2 * HOUR };

async function upload(text: string): Promise<string> {
  const path = join(directory, randomUUID());
  await writeFile(path, text);
  const sha256 = createHash('sha256').update(text).digest('hex');
  await createSources(store).save(path, { sha256, bytes: text.length, files: 1 });
  return sha256;
}

async function workloadOf(sha256: string, end?: { stage: Stage; ageMs: number }): Promise<void> {
  const workloadId = randomUUID();
  const request = { servicePath: 'a', source: { sha256 } };
  const requestedAt = new Date().toISOString();
  const documents = createWorkloadDocuments(store);
  await documents.createSpec({
    schemaVersion: 1,
    workloadId,
    hash: await canonicalHash(request),
    request,
    requestedAt,
  });
  if (end === undefined) return;
  const at = new Date(LATER - end.ageMs).toISOString();
  const rest = { notes: [], unreleased: [], moves: [], createdAt: at, updatedAt: at };
  await documents.writeResult({ workloadId, servicePath: 'a', stage: end.stage, ...rest });
}

const found = async (sha256: string) => (await createSources(store).find(sha256)) !== undefined;
const located = async (sha256: string) => (await createSources(store).locate(sha256)) !== undefined;
const hasTar = async (sha256: string) => (await store.headBlob(storeKeys.sourceTar(sha256))) !== undefined;

test('what nobody needs goes in two steps; what may still be built, or was until lately, stays', async () => {
  const unused = await upload('unused');
  const open = await upload('open');
  const lately = await upload('lately');
  const over = await upload('over');
  await workloadOf(open);
  await workloadOf(lately, { stage: 'failed', ageMs: 99 * HOUR });
  await workloadOf(over, { stage: 'stopped', ageMs: 101 * HOUR });
  const all = [unused, open, lately, over];
  expect(await prune({ now: Date.now() })).toEqual({ removed: 0 });
  expect(await Promise.all(all.map(found))).toEqual([true, true, true, true]);
  expect(await prune()).toEqual({ removed: 0 });
  expect(await Promise.all(all.map(found))).toEqual([false, true, true, false]);
  expect(await Promise.all(all.map(located))).toEqual([true, true, true, true]);
  expect(await prune()).toEqual({ removed: 0 });
  expect(await Promise.all(all.map(hasTar))).toEqual([true, true, true, true]);
  expect(await prune(afterGrace)).toEqual({ removed: 2 });
  expect(await Promise.all(all.map(hasTar))).toEqual([false, true, true, false]);
  expect(await Promise.all(all.map(located))).toEqual([false, true, true, false]);
  expect(await prune(afterGrace)).toEqual({ removed: 0 });
});

test('a workload that came between the steps gets its sources, and they are taken back', async () => {
  const sha256 = await upload('raced');
  await prune();
  expect(await found(sha256)).toBe(false);
  await workloadOf(sha256);
  expect(await located(sha256)).toBe(true);
  expect(await prune(afterGrace)).toEqual({ removed: 0 });
  expect([await found(sha256), await hasTar(sha256)]).toEqual([true, true]);
  expect((await store.list(storeKeys.retiredSource(sha256))).objects).toEqual([]);
});

test('an upload that came between the steps keeps them', async () => {
  const sha256 = await upload('again');
  await prune();
  await upload('again');
  expect(await prune(afterGrace)).toEqual({ removed: 0 });
  expect([await found(sha256), await hasTar(sha256)]).toEqual([true, true]);
});

test('an upload in the very moment of the removal ends with sources that are whole', async () => {
  const sha256 = await upload('moment');
  await prune();
  const path = join(directory, 'moment');
  await writeFile(path, 'moment');
  // The tar is removed after the upload has stored it and before the upload has written its document.
  const between: ObjectStore = Object.create(store, {
    writeDocument: {
      value: async (...call: Parameters<ObjectStore['writeDocument']>) => {
        expect(await prune(afterGrace)).toEqual({ removed: 1 });
        return store.writeDocument(...call);
      },
    },
  });
  await createSources(between).save(path, { sha256, bytes: 6, files: 1 });
  expect([await found(sha256), await hasTar(sha256)]).toEqual([true, true]);
});

test.each(['delete', 'writeDocument', 'headBlob'] as const)('cut off at any %s, it is gone on with', async (method) => {
  const sha256 = await upload(`cut ${method}`);
  for (const options of [{}, afterGrace]) {
    for (let skip = 0; ; skip++) {
      let calls = 0;
      const dying: ObjectStore = Object.create(store, {
        [method]: {
          value: (...call: never[]) => {
            if (calls++ === skip) throw new Error('killed');
            return Reflect.apply(store[method], store, call);
          },
        },
      });
      const died = await pruneSources(dying, {
        keepMs: 100 * HOUR,
        graceMs: HOUR,
        now: LATER,
        maxSources: 100,
        ...options,
      })
        .then(() => false)
        .catch(() => true);
      if (!died) break;
    }
  }
  expect([await located(sha256), await hasTar(sha256)]).toEqual([false, false]);
  expect((await store.list(storeKeys.sources)).objects).toEqual([]);
});

test('goes on step by step', async () => {
  const all = await Promise.all(['one', 'two', 'three'].map(upload));
  let after: string | undefined;
  for (let steps = 0; steps < 10; steps++) {
    const { next } = await prune({ maxSources: 1, ...defined({ after }) });
    after = next;
    if (next === undefined) break;
  }
  expect(await Promise.all(all.map(found))).toEqual([false, false, false]);
});
