/** An agent that lies makes no save, and nothing of the save before is lost. */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { KilnError } from '../../../../domain/failures.ts';
import type { FileEntry, WorkspaceEntry } from '../../../../domain/session/workspace.ts';
import { createSaveMerge, sentChunk } from '../../../../host/saves/save-merge.ts';
import type { SaveRecord, SaveRequest, SaveSummary, WorkspaceAgent } from '../../../../ports/guest-agent.ts';
import { createMemoryStore } from '../../../support/saves/memory-store.ts';
import { createSavesHost, mark, NEVER, placed, type SavesHost } from '../../../support/saves/saves-fixture.ts';

const owned = { uid: 0, gid: 0, mtimeNs: '0', mode: 0o755 };
const root: WorkspaceEntry = { type: 'folder', path: '', ...owned };
const opened = (delta: boolean): SaveRecord => ({ kind: 'opened', delta });
const entry = (of: WorkspaceEntry): SaveRecord => ({ kind: 'entry', entry: of });
const folder = (path: string): SaveRecord => entry({ type: 'folder', path, ...owned });
const chunk = (text: string): SaveRecord => ({ kind: 'chunk', data: Buffer.from(text) });
const done = (summary: Partial<SaveSummary> = {}): SaveRecord => ({
  kind: 'done',
  summary: {
    ...{ entries: 1, files: 0, bytes: 0, readFiles: 0, readBytes: 0, sentChunks: 0, sentBytes: 0 },
    ...{ skipped: 0, changed: 0, scanMs: 0, totalMs: 0, ...summary },
  },
});

function file(saltHex: string, path: string, text: string, more: Partial<FileEntry> = {}): SaveRecord {
  const id = createHash('sha256').update(Buffer.from(saltHex, 'hex')).update(text).digest('hex');
  const chunks = [{ id, bytes: text.length }];
  return entry({ type: 'file', path, ...owned, size: text.length, chunks, ...more });
}

let host: SavesHost;
let hostile: ((request: SaveRequest) => Iterable<SaveRecord> | AsyncIterable<SaveRecord>) | undefined;
let restored: { readonly entries: number; readonly bytes: number } | undefined;

beforeEach(async () => {
  hostile = undefined;
  restored = undefined;
  const agent = async (vmId: string): Promise<WorkspaceAgent> => {
    const real = host.workspaces.of(vmId);
    return {
      async *saveWorkspace(request) {
        if (hostile === undefined) yield* real.saveWorkspace(request);
        else yield* hostile(request);
      },
      restoreWorkspace: async (request, records) => restored ?? (await real.restoreWorkspace(request, records)),
    };
  };
  host = await createSavesHost(createMemoryStore(), { agent });
  await host.saves.restore(placed(1), NEVER);
  host.workspaces.of('vm-1-1').write('a/x', 'known');
  await host.saves.snapshot(placed(1), mark(1), NEVER);
});
afterEach(() => host.remove());

const deep = `${'d/'.repeat(2500)}d`;

it.each<[string, (saltHex: string) => SaveRecord[]]>([
  ['nothing', () => []],
  ['no beginning', () => [entry(root), done()]],
  ['an end, and nothing before', () => [opened(false), done({ entries: 0 })]],
  ['no end', () => [opened(false), entry(root)]],
  ['more after the end', () => [opened(false), entry(root), done(), entry(root)]],
  ['two beginnings', () => [opened(false), opened(false), entry(root), done()]],
  ['no workspace itself', () => [opened(false), folder('a'), done()]],
  ['a workspace that is a file', (salt) => [opened(false), chunk('x'), file(salt, '', 'x'), done({ bytes: 1 })]],
  ['entries out of order', () => [opened(false), entry(root), folder('b'), folder('a'), done({ entries: 3 })]],
  ['an entry twice', () => [opened(false), entry(root), folder('b'), folder('b'), done({ entries: 3 })]],
  ['an entry in no folder', () => [opened(false), entry(root), folder('b/c'), done({ entries: 2 })]],
  ['an entry above', () => [opened(false), entry(root), folder('..'), done({ entries: 2 })]],
  ['an absolute path', () => [opened(false), entry(root), folder('/etc'), done({ entries: 2 })]],
  ['a path with a zero byte', () => [opened(false), entry(root), folder('a\0b'), done({ entries: 2 })]],
  ['a path that is too long', () => [opened(false), entry(root), folder(deep), done({ entries: 2 })]],
  [
    'a chunk that did not come',
    (salt) => [opened(false), entry(root), file(salt, 'f', 'x'), done({ entries: 2, bytes: 1 })],
  ],
  [
    'a chunk of another length',
    (salt) => [
      ...[opened(false), entry(root), chunk('x')],
      file(salt, 'f', 'x', {
        size: 2,
        chunks: [{ id: createHash('sha256').update(Buffer.from(salt, 'hex')).update('x').digest('hex'), bytes: 2 }],
      }),
      done({ entries: 2, bytes: 2 }),
    ],
  ],
  ['an empty chunk', () => [opened(false), chunk(''), entry(root), done()]],
  ['a chunk that is too long', () => [opened(false), chunk('x'.repeat(1024 * 1024 + 1)), entry(root), done()]],
  ['a chunk twice', () => [opened(false), chunk('x'), chunk('x'), entry(root), done()]],
  [
    'a size that its chunks do not have',
    (salt) => [
      ...[opened(false), entry(root), chunk('x'), file(salt, 'f', 'x', { size: 5 })],
      done({ entries: 2, bytes: 5 }),
    ],
  ],
  [
    'more bytes than a workspace may have',
    () => [
      ...[opened(false), entry(root)],
      entry({ type: 'file', path: 'f', ...owned, size: 2 ** 50, chunks: [{ id: '', bytes: 2 ** 50 }] }),
      done({ entries: 2, bytes: 2 ** 50 }),
    ],
  ],
  [
    'a hole of less than nothing',
    () => [
      ...[opened(false), entry(root)],
      entry({ type: 'file', path: 'f', ...owned, size: -5, chunks: [{ id: '', bytes: -5 }] }),
      done({ entries: 2, bytes: -5 }),
    ],
  ],
  [
    'a link to no file',
    () => [...[opened(false), entry(root), entry({ type: 'hardlink', path: 'f', target: 'e' })], done({ entries: 2 })],
  ],
  ['something removed where all comes', () => [opened(false), entry(root), { kind: 'removed', path: 'a' }, done()]],
  [
    'something removed that was not there',
    () => [opened(true), { kind: 'removed', path: 'b' }, done({ entries: 3, bytes: 5 })],
  ],
  [
    'a folder removed, and not what is in it',
    () => [opened(true), { kind: 'removed', path: 'a' }, done({ entries: 2, bytes: 5 })],
  ],
  ['other counts than ours', () => [opened(true), done({ entries: 4, bytes: 5 })]],
  ['another size than ours', () => [opened(true), done({ entries: 3, bytes: 6 })]],
])('an agent that sends %s', async (_, records) => {
  hostile = ({ saltHex }) => records(saltHex);
  await expect(host.saves.snapshot(placed(1), mark(2), NEVER)).rejects.toMatchObject({ code: 'AGENT_PROTOCOL' });
  hostile = undefined;
  host.workspaces.of('vm-1-1').write('a/y', 'new');
  expect(await host.saves.snapshot(placed(1), mark(3), NEVER)).toMatchObject({ mark: mark(3), entries: 4 });
  expect(await host.saves.restore(placed(1, 2), NEVER)).toMatchObject({ mark: mark(3) });
  expect(host.workspaces.of('vm-1-2').walk()).toEqual(host.workspaces.of('vm-1-1').walk());
});

it('a file that was told with holes in a row is saved with one, and restored as it was', async () => {
  const holes = Array.from({ length: 1000 }, () => ({ id: '', bytes: 3 }));
  const hollow = { ...owned, type: 'file', path: 'f', size: 3000, chunks: holes } as const;
  hostile = () => [opened(false), entry(root), entry(hollow), done({ entries: 2, bytes: 3000, files: 1 })];
  await host.saves.snapshot(placed(1), mark(2), NEVER);
  hostile = undefined;
  await host.saves.restore(placed(1, 2), NEVER);
  expect(host.workspaces.of('vm-1-2').read('f')).toEqual(Buffer.alloc(3000));
  const spooled = join(host.stateDir, 'saves');
  const manifests = (await readdir(spooled, { recursive: true })).filter((name) => name.endsWith('1-2-0/manifest'));
  expect(manifests).toHaveLength(1);
  for (const name of manifests) expect(await readFile(join(spooled, name), 'utf8')).toContain('[["",3000]]');
});

it('chunks that no entry needs are not kept', async () => {
  const before = await host.saves.snapshot(placed(1), mark(1), NEVER);
  hostile = () => [
    opened(true),
    chunk('needless'.repeat(500)),
    chunk('too'.repeat(900)),
    done({ entries: 3, bytes: 5 }),
  ];
  expect(await host.saves.snapshot(placed(1), mark(2), NEVER)).toMatchObject({ entries: before.entries, newBytes: 0 });
});

it('a delta against a save that the host did not name is none', async () => {
  hostile = () => [opened(true), entry(root), done()];
  await expect(host.saves.snapshot(placed(1, 7), mark(2), NEVER)).rejects.toMatchObject({ code: 'AGENT_PROTOCOL' });
});

it('an agent that restores something else has restored nothing', async () => {
  restored = { entries: 1, bytes: 0 };
  await expect(host.saves.restore(placed(1, 2), NEVER)).rejects.toMatchObject({ code: 'AGENT_PROTOCOL' });
  restored = { entries: 3, bytes: 5 };
  // It has not even read it.
  await expect(host.saves.restore(placed(1, 2), NEVER)).rejects.toMatchObject({ code: 'AGENT_PROTOCOL' });
});

it('an agent that is found to lie is not waited for', async () => {
  hostile = async function* () {
    yield opened(false);
    yield folder('a');
    await new Promise(() => undefined);
  };
  await expect(host.saves.snapshot(placed(1), mark(2), NEVER)).rejects.toMatchObject({ code: 'AGENT_PROTOCOL' });
  hostile = undefined;
  expect(await host.saves.snapshot(placed(1), mark(2), NEVER)).toMatchObject({ mark: mark(2) });
});

it('an agent that never answers can be given up, and what it had sent takes no room', async () => {
  const giveUp = new AbortController();
  hostile = async function* () {
    yield opened(false);
    yield chunk('x');
    giveUp.abort(new KilnError('CANCELLED', 'given up'));
    await new Promise(() => undefined);
  };
  await expect(host.saves.snapshot(placed(1), mark(2), giveUp.signal)).rejects.toMatchObject({ code: 'CANCELLED' });
  hostile = undefined;
  expect(await host.saves.snapshot(placed(1), mark(2), NEVER)).toMatchObject({ mark: mark(2) });
  const [session = ''] = await readdir(join(host.stateDir, 'saves'));
  const folders = await readdir(join(host.stateDir, 'saves', session, '1'));
  expect(folders.sort()).toEqual(['1-1-0', '1-2-0', 'placement.json']);
});

it('sends no more chunks than a workspace may have', async () => {
  const place = { pack: '1-1-1-0', offset: 0, length: 10 };
  const merge = createSaveMerge({ maxChunks: 2, pack: async () => place, onPiece: async () => undefined });
  const send = async (text: string) => merge.chunk(await sentChunk(Buffer.alloc(32), Buffer.from(text)));
  await send('a');
  await send('b');
  await expect(send('c')).rejects.toMatchObject({ code: 'AGENT_PROTOCOL' });
  await merge.close();
});
