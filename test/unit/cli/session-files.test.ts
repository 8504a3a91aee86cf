import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
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
