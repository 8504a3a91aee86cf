import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { canonicalHash } from '../../contracts/canonical-json.ts';
import type { SpecDocument } from '../../contracts/store/workload-documents.ts';
import type { NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import { storeKeys } from '../../domain/names.ts';
import type { WorkloadState } from '../../domain/workload/workload.ts';
import { createDeployments } from '../../store/deployments/deployments.ts';
import { createHostDirectory, writeHostEntry } from '../../store/hosts/host-directory.ts';
import { createControlLog } from '../../store/logs/control-log.ts';
import { createLogChunks, listLogWriters, readLogEntries, tailLogEntries } from '../../store/logs/log-chunks.ts';
import type { ListOptions, ObjectStore } from '../../store/object-store.ts';
import { createWorkloadDocuments } from '../../store/workloads/workload-documents.ts';
import { freshObjectStore } from '../support/servers/object-store.ts';

const AT = '2026-01-02T03:04:05.678Z';
let store: ObjectStore;
beforeAll(async () => {
  store = await freshObjectStore();
});
afterAll(() => store.close());

async function spec(workloadId: string, servicePath: string): Promise<SpecDocument> {
  const request = { servicePath, env: { B: '2', A: '1' } };
  return { schemaVersion: 1, workloadId, hash: await canonicalHash(request), request, requestedAt: AT };
}

describe('workload documents', () => {
  test('the first spec stands; a later one learns of it', async () => {
    const documents = createWorkloadDocuments(store);
    const first = await spec('one', 'services/a');
    expect(await documents.createSpec(first)).toEqual(first);
    expect(await documents.createSpec(await spec('one', 'services/b'))).toEqual(first);
    expect(await documents.readSpec('one', first.hash)).toEqual(first.request);
  });

  test('a spec with another hash, a changed one and a missing one are SPEC_INVALID', async () => {
    const documents = createWorkloadDocuments(store);
    await documents.createSpec(await spec('two', 'services/a'));
    await expect(documents.readSpec('two', '0'.repeat(64))).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    await expect(documents.readSpec('none', '0'.repeat(64))).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    const changed = { ...(await spec('three', 'services/a')), request: { servicePath: 'services/evil' } };
    await store.writeDocument(storeKeys.workloadSpec('three'), changed);
    await expect(documents.readSpec('three', changed.hash)).rejects.toMatchObject({ code: 'SPEC_INVALID' });
  });

  test('the first result stands', async () => {
    const documents = createWorkloadDocuments(store);
    const state: WorkloadState = {
      workloadId: 'one',
      servicePath: 'services/a',
      stage: 'stopped',
      notes: [],
      unreleased: [],
      moves: [{ seq: 1, at: AT, from: 'pending', to: 'stopped', cause: 'stop' }],
      createdAt: AT,
      updatedAt: AT,
    };
    expect(await documents.result('one')).toBeUndefined();
    await documents.writeResult(state);
    await documents.writeResult({ ...state, stage: 'failed' });
    expect(await documents.result('one')).toEqual(state);
  });

  test('a start is marked once', async () => {
    const documents = createWorkloadDocuments(store);
    expect(await documents.wasStarted('one')).toBe(false);
    await documents.markStarted('one', AT);
    await documents.markStarted('one', '2027-01-02T03:04:05.678Z');
    expect(await documents.wasStarted('one')).toBe(true);
  });
});

describe('log chunks', () => {
  const line = (n: number, epoch = 1, writer = 'host-1'): NumberedLogEntry => ({
    timestamp: AT,
    stage: 'build',
    message: `line ${n}`,
    level: 'info',
    epoch,
    writer,
    n,
  });
  const put = (id: string, lines: readonly NumberedLogEntry[], first = lines[0]?.n ?? 0, tail = '') =>
    store.putBlob(storeKeys.logChunk(id, lines[0]?.epoch ?? 0, lines[0]?.writer ?? '', first), {
      data: Buffer.from(lines.map((entry) => `${JSON.stringify(entry)}\n`).join('') + tail),
    });
  const numbers = (entries: readonly NumberedLogEntry[]) => entries.map(({ n }) => n);

  beforeAll(async () => {
    await put('logs', [line(0), line(1), line(2)]);
    // A chunk that repeats a line, and a chunk whose last line is cut off.
    await put('logs', [line(2), line(3), line(4)]);
    await put('logs', [line(5), line(6)], 5, '{"timestamp":"2026');
    await createControlLog(store).append({
      workloadId: 'logs',
      epoch: 1,
      n: 0,
      stage: 'pending',
      level: 'info',
      message: 'placed',
      timestamp: AT,
    });
  });

  test('name their writers', async () => {
    expect(await listLogWriters(store, 'logs')).toEqual([
      { workloadId: 'logs', epoch: 1, writer: 'control' },
      { workloadId: 'logs', epoch: 1, writer: 'host-1' },
    ]);
    expect(await listLogWriters(store, 'none')).toEqual([]);
  });

  test('are read on from any number, each line once', async () => {
    const ref = { workloadId: 'logs', epoch: 1, writer: 'host-1' };
    expect(numbers(await readLogEntries(store, ref, { after: -1, limit: 100 }))).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(numbers(await readLogEntries(store, ref, { after: 1, limit: 3 }))).toEqual([2, 3, 4]);
    expect(numbers(await readLogEntries(store, ref, { after: 6, limit: 3 }))).toEqual([]);
    expect(numbers(await readLogEntries(store, ref, { after: 3, limit: 100 }))).toEqual([4, 5, 6]);
  });

  test('are read from their end', async () => {
    const ref = { workloadId: 'logs', epoch: 1, writer: 'host-1' };
    const two = await tailLogEntries(store, ref, 2);
    expect([numbers(two.entries), two.truncated]).toEqual([[5, 6], true]);
    const all = await tailLogEntries(store, ref, 7);
    expect([numbers(all.entries), all.truncated]).toEqual([[0, 1, 2, 3, 4, 5, 6], false]);
  });

  describe('of a long log', () => {
    const ref = { workloadId: 'long', epoch: 1, writer: 'host-1' };
    /** @returns line numbers of a page, and how many keys the store listed for it */
    const page = async (after: number, limit = 2) => {
      let named = 0;
      const counting: ObjectStore = Object.create(store, {
        list: {
          value: async (prefix: string, options: ListOptions) => {
            const listed = await store.list(prefix, options);
            named += listed.objects.length;
            return listed;
          },
        },
      });
      return { numbers: numbers(await readLogEntries(counting, ref, { after, limit })), named };
    };
    const sparse = (chunk: number) => 5_000 + chunk * 10_000;

    beforeAll(async () => {
      // Chunks of one line each, one chunk of very many lines, and chunks with large gaps between them.
      await Promise.all(Array.from({ length: 400 }, (_, n) => put('long', [line(n)])));
      await put(
        'long',
        Array.from({ length: 3_000 }, (_, n) => line(400 + n)),
      );
      await Promise.all(Array.from({ length: 150 }, (_, chunk) => put('long', [line(sparse(chunk))])));
    });

    test('every page goes on where the last one ended', async () => {
      for (const after of [-1, 0, 62, 63, 64, 65, 200, 397]) {
        expect((await page(after)).numbers).toEqual([after + 1, after + 2]);
      }
      for (const after of [398, 399, 1_500, 3_397]) expect((await page(after)).numbers).toEqual([after + 1, after + 2]);
      expect((await page(3_398)).numbers).toEqual([3_399, sparse(0)]);
      expect((await page(3_399)).numbers).toEqual([sparse(0), sparse(1)]);
      for (const chunk of [0, 1, 70, 147]) {
        expect((await page(sparse(chunk))).numbers).toEqual([sparse(chunk + 1), sparse(chunk + 2)]);
      }
      expect((await page(sparse(149))).numbers).toEqual([]);
    });

    test('a reader that goes on finds its place again, also beside another one', async () => {
      const chunks = createLogChunks(store);
      const read: Record<string, number[]> = { slow: [], fast: [] };
      const all = [
        ...Array.from({ length: 3_400 }, (_, n) => n),
        ...Array.from({ length: 150 }, (_, chunk) => sparse(chunk)),
      ];
      for (let more = true; more; ) {
        more = false;
        for (const [who, limit] of [
          ['slow', 90],
          ['fast', 250],
        ] as const) {
          const found = numbers(await chunks.read(ref, { after: read[who]?.at(-1) ?? -1, limit }));
          read[who]?.push(...found);
          more ||= found.length > 0;
        }
      }
      expect(read).toEqual({ slow: all, fast: all });
    });

    test('a page names few chunks, however many there are', async () => {
      for (const after of [-1, 300, 399, sparse(100), sparse(148)]) {
        expect((await page(after)).named, `after ${after}`).toBeLessThanOrEqual(400);
      }
    });
  });

  test('a control line written twice is one line, the first', async () => {
    const log = createControlLog(store, () => Date.parse(AT));
    const entry = { workloadId: 'twice', epoch: 1, n: 0, stage: 'pending', level: 'info' } as const;
    await log.append({ ...entry, message: 'first' });
    await log.append({ ...entry, message: 'second' });
    const ref = { workloadId: 'twice', epoch: 1, writer: 'control' };
    expect((await readLogEntries(store, ref, { after: -1, limit: 10 })).map(({ message }) => message)).toEqual([
      'first',
    ]);
  });
});

describe('records', () => {
  test('hosts are listed as they wrote themselves', async () => {
    const entry = {
      hostId: 'host-1',
      url: 'http://127.0.0.1:4900',
      at: AT,
      capacity: { vcpus: 2, memMib: 2048 },
      free: { vcpus: 1, memMib: 1024 },
      load: 0.5,
      images: [],
      driver: 'qemu',
      versions: { kiln: '0.1.0' },
      draining: false,
    };
    await writeHostEntry(store, entry);
    const directory = createHostDirectory(store);
    expect(await directory.list()).toEqual([entry]);
    expect(await directory.read('host-1')).toEqual(entry);
    expect(await directory.read('host-2')).toBeUndefined();
  });

  test('deployments are found or created, and paged', async () => {
    const deployments = createDeployments(store);
    const make = (id: string) => ({
      id,
      projectId: 'p',
      serviceName: 's',
      servicePath: 'services/a',
      status: 'active' as const,
      createdAt: AT,
    });
    for (const id of ['c', 'a', 'b']) await deployments.create(make(id));
    expect(await deployments.create({ ...make('a'), createdAt: '2027-01-01T00:00:00.000Z' })).toEqual(make('a'));
    await expect(deployments.create({ ...make('a'), serviceName: 'other' })).rejects.toMatchObject({
      code: 'CONFLICT',
    });
    const page = await deployments.list({ limit: 2 });
    expect(page).toEqual({ items: [make('a'), make('b')], next: 'b' });
    expect(await deployments.list({ limit: 2, after: 'b' })).toEqual({ items: [make('c')] });
    expect(await deployments.get('none')).toBeUndefined();
  });
});
