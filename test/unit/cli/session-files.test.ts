import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { KilnClient } from '../../../client/http/kiln-client.ts';
import type { SessionFilePlace } from '../../../client/http/sessions/files.ts';
import { KilnError } from '../../../domain/failures.ts';
import { kiln } from '../../support/gateway/cli-fixtures.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kiln-files-'));
});
afterEach(() => rm(folder, { recursive: true }));

const bytes = Uint8Array.of(0, 255, 10, 13);
const breaking = () =>
  new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(bytes);
      controller.error(new KilnError('API_UNAVAILABLE', 'broken off'));
    },
  });

it('ls shows what is in a folder', async () => {
  const asked: unknown[] = [];
  const items = [{ name: 'a b', kind: 'file', bytes: 3, modifiedAt: '2026-01-01T00:00:00Z' }] as const;
  const listSessionFiles = async (request: unknown) => {
    asked.push(request);
    return { items: [...items], isCut: true };
  };
  const shown = await kiln(['session', 'files', 'ls', 't', 'src'], { api: { listSessionFiles } });
  expect(shown.stdout).toMatch(/file +3 +2026-01-01T00:00:00Z +a b\n/);
  expect(shown.stderr).toContain('more entries');
  const all = await kiln(['session', 'files', 'ls', 't', '--project', 'p', '--json'], { api: { listSessionFiles } });
  expect(JSON.parse(all.stdout)).toEqual({ items, isCut: true });
  expect(asked).toEqual([
    { params: { thread: 't' }, query: { dir: 'src' } },
    { params: { thread: 't' }, query: { project: 'p' } },
  ]);
});

it('get writes the bytes to stdout, or a whole file', async () => {
  const asked: SessionFilePlace[] = [];
  const written: (string | Uint8Array)[] = [];
  const getSessionFile = async (place: SessionFilePlace) => {
    asked.push(place);
    return new Blob([bytes]).stream();
  };
  const args = ['session', 'files', 'get', 't', 'a/b'];
  await kiln(args, { api: { getSessionFile }, onWrite: (_stream, data) => written.push(data) });
  expect(Buffer.concat(written.map((data) => Buffer.from(data)))).toEqual(Buffer.from(bytes));
  expect(await kiln([...args, join(folder, 'b')], { api: { getSessionFile } })).toMatchObject({ exitCode: 0 });
  expect(await readFile(join(folder, 'b'))).toEqual(Buffer.from(bytes));
  expect(asked[0]).toMatchObject({ thread: 't', path: 'a/b' });
});

it('get waits for a reader who takes no more for now', async () => {
  let written = 0;
  let pending = 0;
  let most = 0;
  const waiting: (() => void)[] = [];
  const content = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        most = Math.max(most, pending);
        if (written === 20) controller.close();
        else controller.enqueue(bytes);
      },
    },
    { highWaterMark: 0 },
  );
  const onWrite = () => {
    written += 1;
    pending += 1;
    // The reader takes it a moment later.
    setImmediate(() => {
      pending -= 1;
      waiting.shift()?.();
    });
    return false;
  };
  const onDrain = (listener: () => void) => void waiting.push(listener);
  const api = { getSessionFile: async () => content };
  expect(await kiln(['session', 'files', 'get', 't', 'f'], { api, onWrite, onDrain })).toMatchObject({ exitCode: 0 });
  // Nothing is fetched while something waits to be taken.
  expect([written, most]).toEqual([20, 0]);
});

it('turns, tar, and files of a turn ask for that turn', async () => {
  const asked: unknown[] = [];
  const view = { savedAt: '2026-01-01T00:00:00Z', consistency: 'live', entries: 2, bytes: 3 } as const;
  const api: Partial<KilnClient> = {
    listTurns: async () => ({ items: [{ turn: 7 }, { turn: 5 }] }),
    getTurn: async ({ params: { turn } }) => ({ ...view, turn: Number(turn), skipped: { count: 1, first: [] } }),
    getTurnTar: async (of) => {
      asked.push(of);
      return new Blob([bytes]).stream();
    },
    listTurnFiles: async (request) => {
      asked.push(request);
      return { items: [], isCut: false };
    },
    getSessionFile: async (place) => {
      asked.push(place);
      return new Blob([bytes]).stream();
    },
  };
  const turns = await kiln(['session', 'turns', 't'], { api });
  expect(turns.stdout).toMatch(/7 +2026-01-01T00:00:00Z +2 +3 +1\n5 /);
  expect(JSON.parse((await kiln(['session', 'turns', 't', '--json'], { api })).stdout).items).toHaveLength(2);
  const tar = await kiln(['session', 'tar', 't', join(folder, 'a.tar')], { api });
  expect(tar).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('after turn 7') });
  expect(await readFile(join(folder, 'a.tar'))).toEqual(Buffer.from(bytes));
  await kiln(['session', 'tar', 't', join(folder, 'b.tar'), '--turn', '5'], { api });
  await kiln(['session', 'files', 'ls', 't', 'src', '--turn', '5'], { api });
  await kiln(['session', 'files', 'get', 't', 'a', join(folder, 'a'), '--turn', '5'], { api });
  expect(asked).toEqual([
    { thread: 't', turn: 7 },
    { thread: 't', turn: 5 },
    { params: { thread: 't', turn: 5 }, query: { dir: 'src' } },
    { thread: 't', path: 'a', turn: 5 },
  ]);
  const none = await kiln(['session', 'tar', 't'], { api: { listTurns: async () => ({ items: [] }) } });
  expect(none).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('kiln session sleep t') });
});

it('get leaves nothing where it breaks off', async () => {
  const args = ['session', 'files', 'get', 't', 'f', join(folder, 'f')];
  expect(await kiln(args, { api: { getSessionFile: async () => breaking() } })).toMatchObject({ exitCode: 1 });
  expect(await readdir(folder)).toEqual([]);
});

it('put sends a file, and says where there is none', async () => {
  const sent: unknown[] = [];
  const putSessionFile = async ({ path, project }: SessionFilePlace, blob: Blob) => {
    sent.push([path, project, await blob.bytes()]);
    return { path, bytes: blob.size };
  };
  await writeFile(join(folder, 'here'), bytes);
  const args = ['session', 'files', 'put', 't', 'a/b', '--project', 'p'];
  const put = await kiln([...args, join(folder, 'here')], { api: { putSessionFile } });
  expect(put).toMatchObject({ stdout: 'a/b has 4 bytes\n', exitCode: 0 });
  expect(sent).toEqual([['a/b', 'p', bytes]]);
  expect(await kiln([...args, join(folder, 'gone')])).toMatchObject({ exitCode: 2 });
});

it('rm removes', async () => {
  const deleteSessionFile = async ({ params: { path } }: { params: { path: string } }) => ({ path });
  const removed = await kiln(['session', 'files', 'rm', 't', 'a/b'], { api: { deleteSessionFile } });
  expect(removed).toMatchObject({ stdout: 'a/b is removed\n', exitCode: 0 });
});
