/** Tars that break off: nobody takes a part for the whole. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { saveCorrupt } from '../../../../store/sessions/saves/packs.ts';
import { tarOfSave } from '../../../../store/sessions/saves/saved-tar.ts';
import { createSavedWorkspaces, type SavedWorkspace } from '../../../../store/sessions/saves/saved-workspace.ts';
import { builtSave, file, folder, hardlink, type NewEntry, symlink } from '../../../support/saves/built-save.ts';
import { createMemoryStore } from '../../../support/saves/memory-store.ts';
import { NEVER, SESSION } from '../../../support/saves/saves-fixture.ts';

let out: string;
beforeEach(async () => {
  out = await mkdtemp(join(tmpdir(), 'kiln-cut-'));
});
afterEach(() => rm(out, { recursive: true }));

async function workspaceOf(entries: Iterable<NewEntry>): Promise<SavedWorkspace> {
  const store = createMemoryStore();
  return createSavedWorkspaces(store, { maxCacheBytes: 1 }).open(SESSION, await builtSave(store, entries), NEVER);
}

/** @returns what came, and after each part how much that was, until the tar failed */
async function untilFailure(workspace: SavedWorkspace, signal = NEVER, onBytes: (bytes: number) => void = () => {}) {
  const parts: Buffer[] = [];
  const sums: number[] = [];
  let sum = 0;
  const tar = tarOfSave(workspace, signal);
  const failure = await (async () => {
    for await (const part of tar) {
      parts.push(part);
      sum += part.length;
      sums.push(sum);
      onBytes(sum);
    }
  })().catch((error: unknown) => error);
  return { data: Buffer.concat(parts), sums, failure };
}

/** @returns the exit code of a program that gets the bytes on its stdin */
async function fed(data: Buffer, program: string, args: readonly string[]): Promise<number> {
  const child = spawn(program, args, { cwd: out, stdio: ['pipe', 'ignore', 'ignore'] });
  child.stdin.on('error', () => undefined);
  child.stdin.end(data);
  const [code] = await once(child, 'close');
  return Number(code);
}

function* emptyFiles(count: number): Generator<NewEntry> {
  yield folder('');
  for (let n = 0; n < count; n++) yield file(`f${String(n).padStart(5, '0')}`);
}

it('a tar whose manifest is damaged between two entries is refused by tar', async () => {
  const workspace = await workspaceOf(emptyFiles(5000));
  const { count } = workspace.pieces({ signal: NEVER });
  const broken: SavedWorkspace = {
    ...workspace,
    pieces: (reader) => {
      const pieces = workspace.pieces(reader);
      const read = (n: number) => (n === count - 1 ? Promise.reject(saveCorrupt('a test')) : pieces.read(n));
      return { ...pieces, read };
    },
  };
  const { data, failure } = await untilFailure(broken);
  expect(failure).toMatchObject({ code: 'SESSION_CORRUPT' });
  expect(count).toBeGreaterThan(3);
  expect(data.length).toBeGreaterThan(100_000);
  expect(await fed(data, 'tar', ['-x'])).toBe(2);
});

it('no beginning of a tar, as it is given, is one that tar takes', async () => {
  const bytes = (length: number) => Buffer.alloc(length, 'x');
  const entries: NewEntry[] = [
    folder(''),
    file('a-empty'),
    file('b-empty', [], { xattrs: { 'user.x': bytes(900).toString('base64') } }),
    ...[1, 511, 512, 513, 1024].map((length) => file(`c-${String(length).padStart(4, '0')}`, [bytes(length)])),
    file('d-hole', [70_000]),
    file('e-parts', [bytes(300), bytes(212), 512, bytes(1000)]),
    folder('f'),
    hardlink('g', 'd-hole'),
    symlink('h', 'g'),
    file('i-empty'),
  ];
  const { data, sums, failure } = await untilFailure(await workspaceOf(entries));
  expect(failure).toBeUndefined();
  expect([sums.pop(), data.length % 512]).toEqual([data.length, 0]);
  expect(await fed(data, 'tar', ['-t'])).toBe(0);
  for (const sum of sums) expect([sum, await fed(data.subarray(0, sum), 'tar', ['-t'])]).toEqual([sum, 2]);
  expect(sums.length).toBeGreaterThan(20);
});

it('a tar that nobody wants any more ends with the reason, in the middle', async () => {
  const caller = new AbortController();
  const workspace = await workspaceOf(emptyFiles(5000));
  const { data, failure } = await untilFailure(workspace, caller.signal, (sum) => {
    if (sum > 4_100_000) caller.abort(new Error('left'));
  });
  expect(failure).toMatchObject({ message: 'left' });
  expect(data.length).toBeGreaterThan(4_100_000);
  // At once, but for what the stream has in hand: the next piece of the manifest begins only behind 5 MB.
  expect(data.length).toBeLessThan(4_300_000);
});
