/** Files of saved workspaces, against what the kernel says of the same files. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  link,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { extract } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isKilnError } from '../../../../domain/failures.ts';
import { storeKeys } from '../../../../domain/names.ts';
import { createSaveHeads } from '../../../../store/sessions/saves/heads.ts';
import { type LookLimits, listSaved, lookAt, openSaved } from '../../../../store/sessions/saves/saved-files.ts';
import { tarOfSave } from '../../../../store/sessions/saves/saved-tar.ts';
import { createSavedWorkspaces, type SavedWorkspace } from '../../../../store/sessions/saves/saved-workspace.ts';
import { createMemoryStore, type MemoryStore } from '../../../support/saves/memory-store.ts';
import {
  CHUNK_BYTES,
  createSavesHost,
  mark,
  NEVER,
  placed,
  type SavesHost,
  SESSION,
} from '../../../support/saves/saves-fixture.ts';

let store: MemoryStore;
let host: SavesHost;
let folder: string;

beforeEach(async () => {
  store = createMemoryStore();
  host = await createSavesHost(store);
  folder = await realpath(await mkdtemp(join(tmpdir(), 'kiln-saved-')));
});
afterEach(async () => {
  await host.remove();
  await rm(folder, { recursive: true });
});

const here = placed(1);
const LIMITS: LookLimits = { signal: NEVER, maxReads: 100_000 };
const guest = () => host.workspaces.of(here.vmId);

/** Saves the workspace of the host's VM. @returns it as the store has it */
async function saved(turn = 1, maxCacheBytes = 1_000_000): Promise<SavedWorkspace> {
  await host.saves.restore(here, NEVER);
  await host.saves.snapshot(here, mark(turn), NEVER);
  await host.saves.upload(here, NEVER);
  return opened(maxCacheBytes);
}

async function opened(maxCacheBytes = 1_000_000): Promise<SavedWorkspace> {
  const head = await createSaveHeads(store).read(SESSION);
  if (head?.save === undefined) throw new Error('nothing is saved');
  return createSavedWorkspaces(store, { maxCacheBytes }).open(SESSION, head.save, NEVER);
}

async function bytesOf(workspace: SavedWorkspace, path: string, from = 0, to?: number): Promise<Buffer> {
  const file = await openSaved(workspace, path, LIMITS);
  return buffer(file.read({ from, to: to ?? file.bytes }, NEVER));
}

/** The same in the guest and in a folder that the kernel can be asked about. */
const world = {
  async file(path: string, content: string | Buffer) {
    await makeWay(path);
    await writeFile(join(folder, path), content, { flag: 'wx' });
    guest().write(bytesIn(path), content);
  },
  async link(path: string, target: string) {
    await makeWay(path);
    await symlink(target, join(folder, path));
    guest().symlink(bytesIn(path), bytesIn(target));
  },
  async name(path: string, of: string) {
    await makeWay(path);
    if (!guest().isFile(bytesIn(of))) throw new Error(`${of} is no file`);
    await link(join(folder, of), join(folder, path));
    guest().hardlink(bytesIn(path), bytesIn(of));
  },
};

/** A character for each byte, as names of a guest are written. */
const bytesIn = (text: string) => Buffer.from(text).toString('latin1');

/** Makes the folders above. @throws Error where one of them is something else: a path has no links in it */
async function makeWay(path: string): Promise<void> {
  // Each step is looked at before the next one is made: mkdir goes through links.
  let at = folder;
  for (const name of path.split('/').slice(0, -1)) {
    at = join(at, name);
    await mkdir(at).catch(() => undefined);
    if (!(await lstat(at)).isDirectory()) throw new Error(`${at} is no folder`);
    guest().folder(bytesIn(at.slice(folder.length + 1)));
  }
}

const codeOf = (error: unknown) => (isKilnError(error) ? error.code : String(error));

/** What the kernel answers for a path: the file's content, the names in a folder, or why there is nothing. */
async function asked(path: string): Promise<string> {
  try {
    const real = await realpath(join(folder, path));
    if (!`${real}/`.startsWith(`${folder}/`)) return 'SPEC_INVALID';
    const { size } = await stat(real);
    if ((await stat(real)).isDirectory()) return `folder ${(await readdir(real)).sort().join(' ')}`;
    return `file ${size} ${(await readFile(real)).toString('hex')}`;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : '';
    return code === 'ELOOP' ? 'SPEC_INVALID' : 'NOT_FOUND';
  }
}

async function answered(workspace: SavedWorkspace, path: string): Promise<string> {
  try {
    const { kind, bytes } = await lookAt(workspace, path, LIMITS);
    if (kind === 'file') return `file ${bytes} ${(await bytesOf(workspace, path)).toString('hex')}`;
    const names = (await listSaved(workspace, path, LIMITS)).entries.map(({ name }) => name);
    return `${kind} ${names.sort().join(' ')}`;
  } catch (error) {
    return codeOf(error);
  }
}

describe('files of a saved workspace', () => {
  it('are found, listed and read as the kernel finds them, through any links', async () => {
    const name = fc.constantFrom('a', 'b', 'a-b', 'a0', 'ä', 'c d');
    const path = fc.array(name, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
    const target = fc.array(fc.oneof(name, fc.constantFrom('..', '.', '')), { minLength: 1, maxLength: 4 });
    const step = fc.oneof(
      fc.record({ what: fc.constant('file' as const), path, bytes: fc.integer({ min: 0, max: 3 * CHUNK_BYTES }) }),
      fc.record({ what: fc.constant('link' as const), path, target: target.map((parts) => parts.join('/')) }),
      fc.record({ what: fc.constant('name' as const), path, of: path }),
    );
    let looks = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 30 }), fc.array(path), async (steps, more) => {
        await Promise.all([host.remove(), rm(folder, { recursive: true })]);
        store = createMemoryStore();
        host = await createSavesHost(store);
        await mkdir(folder);
        for (const one of steps) {
          // What the kernel refuses (a file in the way) is not done in the guest either.
          if (one.what === 'file') await world.file(one.path, Buffer.alloc(one.bytes, one.path)).catch(() => undefined);
          else if (one.what === 'link') await world.link(one.path, one.target || '.').catch(() => undefined);
          else await world.name(one.path, one.of).catch(() => undefined);
        }
        const workspace = await saved(1, 500);
        for (const look of [...steps.map((one) => one.path), ...more]) {
          looks += 1;
          const expected = await asked(look);
          const found = await answered(workspace, look);
          // A path that leaves the workspace is refused before it is known whether anything is there.
          if (expected === 'NOT_FOUND' && found === 'SPEC_INVALID') continue;
          expect([look, found]).toEqual([look, expected]);
        }
      }),
      { numRuns: 60 },
    );
    expect(looks).toBeGreaterThan(500);
  });

  it('are read from any byte to any other, also across holes', async () => {
    const content = Buffer.concat([Buffer.alloc(100, 'x'), Buffer.alloc(5 * CHUNK_BYTES), Buffer.alloc(333, 'yz')]);
    guest().write('data', content);
    const workspace = await saved();
    await fc.assert(
      fc.asyncProperty(fc.nat(content.length), fc.nat(content.length), async (a, b) => {
        const [from, to] = a < b ? [a, b] : [b, a];
        expect((await bytesOf(workspace, 'data', from, to)).equals(content.subarray(from, to))).toBe(true);
      }),
      { numRuns: 100 },
    );
  });

  it('cost only what is asked for', async () => {
    for (let n = 0; n < 3000; n++) guest().write(`many/${n}`, `content of ${n}`);
    guest().write('z/large', Buffer.alloc(100 * CHUNK_BYTES, 'abc'));
    const { count } = (await saved()).pieces(LIMITS);
    const calls: string[] = [];
    store.onCall = ({ method, at }) => void (at === 'before' && calls.push(method));
    const workspace = await opened(10_000_000);
    calls.length = 0;
    expect((await bytesOf(workspace, 'many/77')).toString()).toBe('content of 77');
    // Halves of the manifest, for the folder above and for the file; then the file.
    expect(calls.length).toBeLessThan(2 * Math.ceil(Math.log2(count)) + 2);
    expect(count).toBeGreaterThan(8);
    calls.length = 0;
    expect((await bytesOf(workspace, 'many/77')).toString()).toBe('content of 77');
    expect(calls).toEqual(['readPart']);
    calls.length = 0;
    await bytesOf(workspace, 'z/large', 10 * CHUNK_BYTES, 11 * CHUNK_BYTES);
    expect(calls.filter((method) => method !== 'readPart')).toEqual([]);
  });

  it('follow absolute links of the guest, and never out of the workspace', async () => {
    guest().write('src/main', 'here');
    guest().symlink('inside', '/workspace/src');
    guest().symlink('itself', '/workspace');
    guest().symlink('outside', '/etc/passwd');
    guest().symlink('beside', '/workspace-of-another/src');
    guest().symlink('above', 'src/../../etc');
    guest().symlink('round', 'round');
    const workspace = await saved();
    expect((await bytesOf(workspace, 'itself/inside/main')).toString()).toBe('here');
    for (const path of ['outside', 'beside', 'above', 'round', 'round/x']) {
      await expect(lookAt(workspace, path, LIMITS)).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    }
    await expect(openSaved(workspace, 'src', LIMITS)).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    await expect(listSaved(workspace, 'src/main', LIMITS)).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const { entries } = await listSaved(workspace, '', LIMITS);
    expect(entries.find(({ name }) => name === 'outside')).toMatchObject({ kind: 'link', bytes: '/etc/passwd'.length });
  });

  it('are listed up to a number of them', async () => {
    for (let n = 0; n < 10_001; n++) guest().write(`many/${n}`, '');
    const { entries, isCut } = await listSaved(await saved(), 'many', LIMITS);
    expect([entries.length, isCut]).toEqual([10_000, true]);
  });

  it('are refused where a pack is damaged, and never wrong', async () => {
    guest().write('data', Buffer.alloc(20 * CHUNK_BYTES, 'x'));
    for (let n = 0; n < 20; n++) guest().write(`f/${n}`, `content of ${n}`);
    await saved();
    const packs = [...store.objects.keys()].filter((key) => key.includes('/packs/'));
    for (const key of packs) {
      const intact = store.objects.get(key) ?? Buffer.alloc(0);
      for (const damage of [undefined, intact.subarray(0, 20), flipped(intact)]) {
        if (damage === undefined) store.objects.delete(key);
        else store.objects.set(key, damage);
        const workspace = await opened();
        for (const path of ['data', 'f/3', 'f/19']) {
          const found = await bytesOf(workspace, path).catch((error: unknown) => codeOf(error));
          const whole = path === 'data' ? 'x'.repeat(20 * CHUNK_BYTES) : `content of ${path.slice(2)}`;
          expect(['SESSION_CORRUPT', whole]).toContain(String(found));
        }
        expect(await buffer(tarOfSave(workspace, NEVER)).catch(codeOf)).toBe('SESSION_CORRUPT');
      }
      store.objects.set(key, intact);
    }
    expect(packs.length).toBeGreaterThan(1);
  });

  it('end with the reason of whoever does not want them any more', async () => {
    guest().write('data', Buffer.alloc(50 * CHUNK_BYTES, 'x'));
    const workspace = await saved();
    const gone = AbortSignal.abort(new Error('gone'));
    const file = await openSaved(workspace, 'data', LIMITS);
    await expect(buffer(file.read({ from: 0, to: file.bytes }, gone))).rejects.toThrow('gone');
    await expect(buffer(tarOfSave(workspace, gone))).rejects.toThrow('gone');
  });
});

/** Every byte after the first line differs. */
function flipped(pack: Buffer): Buffer {
  return Buffer.from(pack.map((byte, at) => (at < 12 ? byte : byte ^ 0xff)));
}

describe('a saved workspace as a tar', () => {
  it('is unpacked by tar as it was, with names that are no text', async () => {
    guest().write('README', 'hello', { mode: 0o4755 });
    guest().write('locked', 'secret', { mode: 0 });
    guest().write(`deep/${'n'.repeat(200)}/${'m'.repeat(255)}`, Buffer.alloc(3 * CHUNK_BYTES, 'long'));
    guest().write('\xff\xfe name', Buffer.concat([Buffer.alloc(2 * CHUNK_BYTES), Buffer.from('after a hole')]));
    guest().write('empty', '');
    guest().symlink('link', '../\xe9'.padEnd(150, 'x'));
    guest().hardlink('zweitens', 'README');
    guest().folder('a/b/c');
    const tar = await buffer(tarOfSave(await saved(), NEVER));
    const archive = join(folder, 'it.tar');
    await writeFile(archive, tar);
    const out = join(folder, 'out');
    await mkdir(out);
    await promisify(execFile)('tar', ['-xpf', archive, '-C', out]);
    // Type, mode, size, links and name of each, as a program says that knows nothing of saves.
    const listed = await promisify(execFile)('find', ['.', '-printf', '%P|%y|%m|%n|%l|%T@\\n'], {
      cwd: out,
      encoding: 'latin1',
    });
    const found = new Map(
      listed.stdout
        .split('\n')
        .slice(0, -1)
        .map((line) => [line.split('|')[0] ?? '', line]),
    );
    for (const line of guest().walk()) {
      const entry = JSON.parse(line.slice(0, line.lastIndexOf('}') + 1));
      const shown = found.get(entry.path)?.split('|') ?? [];
      if (entry.type === 'hardlink') expect(shown[3]).toBe('2');
      else if (entry.type === 'symlink') expect(shown[4]).toBe(entry.target);
      else expect(shown[2]).toBe(entry.mode.toString(8));
      if (entry.type === 'file') {
        const data = await readFile(Buffer.from(join(out, entry.path), 'latin1'));
        expect(data.equals(guest().read(entry.path) ?? Buffer.alloc(0))).toBe(true);
        expect(Number(shown[5]) * 1e9).toBeCloseTo(Number(entry.mtimeNs), -3);
      }
    }
    expect(found.size).toBe(guest().walk().length);
  });

  it('keeps attributes, times before 1970, and owners that no plain header has room for', async () => {
    guest().write('f', 'x');
    guest().setXattrs('f', { 'user.z': 'AP8K', 'user.ä': '' });
    const headers = await headersOf(tarOfSave(await saved(), NEVER));
    expect(headers.map(({ name }) => name)).toEqual(['./', './f']);
    expect(Object.keys(headers[1]?.pax ?? {})).toEqual(
      expect.arrayContaining(['SCHILY.xattr.user.z', 'SCHILY.xattr.user.ä']),
    );
  });

  it('of many chunks fetches those that lie side by side in one call', async () => {
    await host.remove();
    host = await createSavesHost(store, { packBytes: 1_000_000 });
    for (let n = 0; n < 500; n++) guest().write(`f/${n}`, createHash('sha256').update(String(n)).digest());
    const workspace = await saved();
    let calls = 0;
    store.onCall = ({ at }) => void (at === 'before' && calls++);
    await buffer(tarOfSave(workspace, NEVER));
    expect(calls).toBeLessThan(40);
  });
});

async function headersOf(tar: Readable): Promise<{ name: string; pax: object }[]> {
  const reader = extract();
  tar.pipe(reader);
  const headers: { name: string; pax: object }[] = [];
  for await (const entry of reader) {
    headers.push({ name: entry.header.name, pax: Object(entry.header.pax) });
    entry.resume();
  }
  return headers;
}

it('a turn whose tree is gone is told as damaged', async () => {
  guest().write('f', 'x');
  await saved();
  store.objects.delete(storeKeys.saveTree(SESSION, '1-1-0'));
  await expect(opened()).rejects.toMatchObject({ code: 'SESSION_CORRUPT' });
});
