/** Saves and restores of a workspace: what comes back is what was there, by a walk that shares no code with either. */
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { WorkspaceEntry } from '../../../domain/session/workspace.ts';
import type { AgentChannel, RestoreRecord, SaveRecord, SaveSummary } from '../../../ports/guest-agent.ts';
import { type Bench, freshId, runIn } from '../../support/guest/guest-under-test.ts';

const SALT = '5a'.repeat(32);

/** What a host has after saves: the newest entries, and every chunk that ever came. */
class Copy {
  readonly entries = new Map<string, WorkspaceEntry>();
  readonly chunks = new Map<string, Buffer>();
  saveId: string | undefined;

  async take(agent: AgentChannel, path: string): Promise<{ delta: boolean; summary: SaveSummary; told: string[] }> {
    const saveId = freshId();
    const base = this.saveId === undefined ? {} : { baseSaveId: this.saveId };
    let delta = false;
    const told: string[] = [];
    for await (const record of agent.saveWorkspace({ path, saveId, saltHex: SALT, ...base })) {
      if (record.kind === 'opened') ({ delta } = record);
      else if (record.kind === 'done') {
        this.saveId = saveId;
        return { delta, summary: record.summary, told };
      } else told.push(this.keep(record));
    }
    throw new Error('a save without an end');
  }

  private keep(record: Exclude<SaveRecord, { kind: 'opened' | 'done' }>): string {
    if (record.kind === 'chunk') {
      this.chunks.set(idOf(record.data), record.data);
      return `chunk of ${record.data.length}`;
    }
    if (record.kind === 'skipped') return `${record.skipped.type} ${record.skipped.path}`;
    if (record.kind === 'removed') {
      this.entries.delete(record.path);
      return `no ${record.path}`;
    }
    this.entries.set(record.entry.path, record.entry);
    return `${record.entry.type} ${record.entry.path}`;
  }

  async *records(): AsyncGenerator<RestoreRecord> {
    const paths = [...this.entries.keys()].sort((a, b) => (a < b ? -1 : 1));
    for (const path of paths) {
      const entry = this.entries.get(path);
      if (entry === undefined) continue;
      yield { kind: 'entry', entry };
      for (const { id } of entry.type === 'file' ? entry.chunks : []) {
        const data = this.chunks.get(id);
        if (id !== '' && data === undefined) throw new Error(`a chunk of ${path} never came`);
        if (data !== undefined) yield { kind: 'chunk', data };
      }
    }
  }
}

const idOf = (data: Buffer) => createHash('sha256').update(Buffer.from(SALT, 'hex')).update(data).digest('hex');

/** Everything that a save is to keep of a folder, as one line for each path; names and targets as hex. */
const WALK = `
const fs = require('fs'), { createHash } = require('crypto');
const root = Buffer.from(process.argv[1]);
const links = new Map();
const at = (rel) => rel.length === 0 ? root : Buffer.concat([root, Buffer.from('/'), rel]);
function walk(rel) {
  const s = fs.lstatSync(at(rel), { bigint: true });
  const kind = s.isDirectory() ? 'd' : s.isSymbolicLink() ? 'l' : s.isFile() ? 'f' : '?';
  if (kind === '?') return;
  const line = [rel.toString('hex'), kind, s.uid, s.gid, s.mtimeNs];
  if (kind !== 'l') line.push((s.mode & 0o7777n).toString(8));
  if (kind === 'l') line.push(fs.readlinkSync(at(rel), { encoding: 'buffer' }).toString('hex'));
  if (kind === 'f') {
    line.push(s.size, createHash('md5').update(fs.readFileSync(at(rel))).digest('hex'));
    if (s.nlink > 1n) { if (!links.has(s.ino)) links.set(s.ino, links.size); line.push('link', links.get(s.ino)); }
  }
  console.log(line.join(' '));
  if (kind !== 'd') return;
  const names = fs.readdirSync(at(rel), { encoding: 'buffer' }).sort(Buffer.compare);
  for (const name of names) walk(rel.length === 0 ? name : Buffer.concat([rel, Buffer.from('/'), name]));
}
walk(Buffer.alloc(0));
`;

/** Every kind of thing that agents write, with names that no text encoding has. */
const ODD_TREE = `
const fs = require('fs'), { execFileSync } = require('child_process');
const root = process.argv[1];
process.chdir(root);
const name = (...parts) => Buffer.concat(parts.map((part) => Buffer.isBuffer(part) ? part : Buffer.from(part)));
fs.mkdirSync('src/deep', { recursive: true });
fs.mkdirSync('empty', { mode: 0o700 });
fs.writeFileSync('src/a.txt', 'one');
fs.writeFileSync('src/b.txt', '');
fs.writeFileSync(name('line\\nbreak'), 'x');
fs.writeFileSync(name('bytes-', Buffer.from([0xff, 0xfe, 0x80])), 'y');
fs.writeFileSync('n'.repeat(255), 'z');
fs.writeFileSync('src.txt', 'sorts between src and what is in it');
fs.writeFileSync('tool', '#!/bin/sh\\n'); fs.chmodSync('tool', 0o4755);
fs.writeFileSync('secret', 'no rights'); fs.chmodSync('secret', 0);
fs.writeFileSync('owned', 'by another'); fs.chownSync('owned', 1234, 4321);
fs.linkSync('src/a.txt', 'src/deep/also-a'); fs.linkSync('src/a.txt', 'zz-a');
fs.symlinkSync('nowhere/at/all', 'dangling'); fs.symlinkSync('/etc/passwd', 'absolute'); fs.symlinkSync('src', 'folder');
fs.writeFileSync('exact', Buffer.alloc(256 * 1024, 7));
const big = Buffer.alloc(3 * 1024 * 1024 + 17); for (let i = 0; i < big.length; i += 1) big[i] = (i * 2654435761 >>> 13) & 255;
fs.writeFileSync('big', big);
const hole = fs.openSync('sparse', 'w'); fs.writeSync(hole, 'at the end', 5 * 1024 * 1024); fs.closeSync(hole);
execFileSync('mkfifo', ['pipe']);
fs.utimesSync('src/b.txt', 1, 1234567.891); fs.lutimesSync('dangling', 5, 86400); fs.utimesSync('empty', 7, 7777777);
`;

const node = async (bench: Bench, script: string, ...args: string[]) => {
  const { stdout, stderr, code } = await runIn(bench.agent(), ['node', '-e', script, ...args]);
  if (code !== 0) throw new Error(`a script in the guest failed: ${stderr}`);
  return stdout;
};
const freshFolder = async (bench: Bench) => {
  const path = `/workspace/${freshId()}`;
  await runIn(bench.agent(), ['mkdir', '-p', path]);
  return path;
};

export function describeWorkspaces(bench: Bench): void {
  describe('a workspace', () => {
    it('comes back as it was: content, modes, owners, times, links, holes and names of any bytes', async () => {
      const [path, other] = [await freshFolder(bench), await freshFolder(bench)];
      await node(bench, ODD_TREE, path);
      await runIn(bench.agent(), ['sh', '-c', `echo old > ${other}/stays-not; mkdir ${other}/src`]);
      const copy = new Copy();
      const { summary, told } = await copy.take(bench.agent(), path);
      expect(told).toContain('pipe pipe');
      const before = await node(bench, WALK, path);
      const restored = await bench
        .agent()
        .restoreWorkspace({ path: other, saveId: 'r', saltHex: SALT }, copy.records());
      expect(restored).toEqual({ entries: copy.entries.size, bytes: summary.bytes });
      expect(await node(bench, WALK, other)).toBe(before);
      const { stdout } = await runIn(bench.agent(), ['du', '-k', `${other}/sparse`]);
      expect(Number.parseInt(stdout, 10)).toBeLessThan(1024);
    });

    it('is saved again at the cost of what changed', async () => {
      const path = await freshFolder(bench);
      await node(bench, ODD_TREE, path);
      const copy = new Copy();
      await copy.take(bench.agent(), path);
      // A save made within the same moment reads again what was written in it.
      await runIn(bench.agent(), ['sleep', '2.1']);
      await copy.take(bench.agent(), path);
      const nothing = await copy.take(bench.agent(), path);
      expect(nothing).toMatchObject({ delta: true, told: ['pipe pipe'], summary: { readFiles: 0, sentBytes: 0 } });
      const changes = [
        'echo two > src/a.txt',
        'rm src/b.txt && rmdir empty',
        'chmod 600 owned',
        'mv tool moved',
        // The same size and time as before: only its ctime tells.
        'touch -r exact /tmp/time && printf X | dd of=exact conv=notrunc 2>/dev/null && touch -r /tmp/time exact',
      ];
      await runIn(bench.agent(), ['sh', '-ec', `cd ${path}; ${changes.join('; ')}`]);
      const { delta, told, summary } = await copy.take(bench.agent(), path);
      expect(delta).toBe(true);
      expect(told.filter((text) => !text.startsWith('chunk'))).toEqual(
        [
          'folder ',
          'no empty',
          'file exact',
          'file moved',
          'file owned',
          'folder src',
          'file src/a.txt',
          'no src/b.txt',
        ]
          .concat('no tool', 'pipe pipe')
          .sort((a, b) => (pathOf(a) < pathOf(b) ? -1 : 1)),
      );
      expect(summary).toMatchObject({ readFiles: 4, sentChunks: 2 });
      const before = await node(bench, WALK, path);
      await bench.agent().restoreWorkspace({ path, saveId: 'again', saltHex: SALT }, copy.records());
      expect(await node(bench, WALK, path)).toBe(before);
    });

    it('after a restore, costs what changed since', async () => {
      const [path, other] = [await freshFolder(bench), await freshFolder(bench)];
      await node(bench, ODD_TREE, path);
      const copy = new Copy();
      await copy.take(bench.agent(), path);
      copy.saveId = freshId();
      const request = { path: other, saveId: copy.saveId, saltHex: SALT };
      await bench.agent().restoreWorkspace(request, copy.records());
      await runIn(bench.agent(), ['sh', '-c', `echo new > ${other}/new`]);
      const { delta, summary, told } = await copy.take(bench.agent(), other);
      expect(delta).toBe(true);
      expect(summary.sentChunks).toBe(1);
      expect(told).toEqual(['folder ', 'chunk of 4', 'file new']);
    });

    it('whose base is another one comes whole, and so after a save that nobody read to its end', async () => {
      const path = await freshFolder(bench);
      await node(bench, ODD_TREE, path);
      const copy = new Copy();
      await copy.take(bench.agent(), path);
      for await (const _ of bench.agent().saveWorkspace({ path, saveId: 'left', saltHex: SALT })) break;
      expect((await copy.take(bench.agent(), path)).delta).toBe(false);
      copy.saveId = 'another';
      const { delta, summary } = await copy.take(bench.agent(), path);
      expect(delta).toBe(false);
      expect(summary.readFiles).toBeGreaterThan(0);
    });

    it('is not replaced while a process runs', async () => {
      const path = await freshFolder(bench);
      await runIn(bench.agent(), ['sh', '-c', `echo kept > ${path}/kept`]);
      const running = await bench.agent().exec({ execId: freshId(), argv: ['sleep', '1000'], output: 'ring' });
      const none = new Copy();
      none.entries.set('', { type: 'folder', path: '', mode: 0o755, uid: 0, gid: 0, mtimeNs: '0' });
      const request = { path, saveId: 'x', saltHex: SALT };
      await expect(bench.agent().restoreWorkspace(request, none.records())).rejects.toMatchObject({ code: 'CONFLICT' });
      expect((await runIn(bench.agent(), ['cat', `${path}/kept`])).stdout).toBe('kept\n');
      await running.signal('SIGKILL');
      await running.exit;
    });

    it('is refused where an entry would leave it', async () => {
      const path = await freshFolder(bench);
      const owned = { uid: 0, gid: 0, mtimeNs: '0' };
      const copy = new Copy();
      copy.entries.set('', { type: 'folder', path: '', mode: 0o755, ...owned });
      copy.entries.set('out', { type: 'symlink', path: 'out', target: '/tmp', ...owned });
      copy.entries.set('out/x', { type: 'file', path: 'out/x', mode: 0o644, size: 0, chunks: [], ...owned });
      const request = { path, saveId: 'x', saltHex: SALT };
      const refused = bench.agent().restoreWorkspace(request, copy.records());
      await expect(refused).rejects.toMatchObject({ code: expect.stringMatching(/^(SPEC_INVALID|AGENT_PROTOCOL)$/) });
      expect(await runIn(bench.agent(), ['test', '-e', '/tmp/x'])).toMatchObject({ code: 1 });
    });
  });
}

const pathOf = (told: string) => told.slice(told.indexOf(' ') + 1);
