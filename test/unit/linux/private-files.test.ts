import { execFile } from 'node:child_process';
import { chmod, chown, mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { closeHome } from '../../../cli/dev/private-home.ts';
import { closeToOthers } from '../../../linux/private-files.ts';

const ALL = { maxEntries: 1_000 };
let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kiln-private-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

/** Makes files and folders (names that end in `/`) with the given modes. */
async function make(entries: Readonly<Record<string, number>>): Promise<void> {
  for (const [name, mode] of Object.entries(entries)) {
    const path = join(root, name);
    if (name.endsWith('/')) await mkdir(path, { recursive: true });
    else await writeFile(path, 'x');
    await chmod(path, mode);
  }
}
const modeOf = async (name: string) => ((await stat(join(root, name))).mode & 0o777).toString(8);
const modes = async (...names: string[]) => Promise.all(names.map(modeOf));

describe('closeToOthers', () => {
  it('takes the rights of others from folders and files, and none of the owner', async () => {
    await make({
      'a/': 0o755,
      'a/b/': 0o777,
      'a/b/file': 0o644,
      'a/program': 0o755,
      'a/read-only': 0o444,
      'a/closed': 0o600,
    });
    await chmod(root, 0o755);
    expect(await closeToOthers(root, ALL)).toEqual({ changed: 6, whole: true });
    expect(await modes('.', 'a', 'a/b', 'a/b/file', 'a/program', 'a/read-only', 'a/closed')).toEqual([
      '700',
      '700',
      '700',
      '600',
      '700',
      '400',
      '600',
    ]);
  });

  it('changes nothing when it is done again', async () => {
    await make({ 'a/': 0o755, 'a/file': 0o644 });
    await closeToOthers(root, ALL);
    const before = await stat(join(root, 'a/file'), { bigint: true });
    expect(await closeToOthers(root, ALL)).toEqual({ changed: 0, whole: true });
    expect((await stat(join(root, 'a/file'), { bigint: true })).ctimeNs).toBe(before.ctimeNs);
  });

  it('follows no link, neither of a file nor of a folder nor as the root itself', async () => {
    await make({ 'else/': 0o755, 'else/file': 0o644, 'in/': 0o755 });
    await symlink(join(root, 'else'), join(root, 'in/folder'));
    await symlink(join(root, 'else/file'), join(root, 'in/file'));
    await closeToOthers(join(root, 'in'), ALL);
    await closeToOthers(join(root, 'in/folder'), ALL);
    expect(await modes('in', 'else', 'else/file')).toEqual(['700', '755', '644']);
  });

  it('leaves the files of named folders to whoever opens them, and closes the folders', async () => {
    await make({ 'images/': 0o755, 'images/x/': 0o755, 'images/x/disk': 0o444, 'other/': 0o755, 'other/file': 0o644 });
    await closeToOthers(root, { ...ALL, keepFilesIn: ['images'] });
    expect(await modes('images', 'images/x', 'images/x/disk', 'other/file')).toEqual(['700', '700', '444', '600']);
  });

  it('leaves alone what belongs to another user', async () => {
    await make({ disk: 0o644, 'theirs/': 0o755, 'theirs/file': 0o644 });
    if (process.getuid?.() !== 0) return;
    for (const name of ['disk', 'theirs', 'theirs/file']) await chown(join(root, name), 12_345, 12_345);
    await closeToOthers(root, ALL);
    expect(await modes('disk', 'theirs', 'theirs/file')).toEqual(['644', '755', '644']);
  });

  it('looks at no more than it may, the upper folders first: what it has not seen lies below a closed one', async () => {
    await make({ 'a/': 0o755, 'a/b/': 0o755 });
    for (let n = 0; n < 20; n++) await make({ [`a/b/${n}`]: 0o644 });
    await chmod(root, 0o755);
    expect(await closeToOthers(root, { maxEntries: 10 })).toMatchObject({ whole: false });
    expect(await modes('.', 'a', 'a/b')).toEqual(['700', '700', '700']);
    const left = await Promise.all((await readdir(join(root, 'a/b'))).map((name) => modeOf(`a/b/${name}`)));
    expect(left.filter((mode) => mode === '600')).toHaveLength(8);
  });

  it('does not wait at a pipe, and says nothing of what is not there', async () => {
    await make({ 'run/': 0o755 });
    await promisify(execFile)('mkfifo', ['-m', '644', join(root, 'run/pipe')]);
    await closeToOthers(root, ALL);
    await closeToOthers(join(root, 'run/pipe'), ALL);
    expect(await closeToOthers(join(root, 'none'), ALL)).toEqual({ changed: 0, whole: true });
  });
});

describe('closeHome', () => {
  const OLD = {
    'logs/': 0o755,
    'logs/host.log': 0o644,
    'temporal/': 0o755,
    'temporal/temporal.db': 0o644,
    's3/': 0o755,
  };

  it('closes the home and all of its own in it, but for what the host worker sees to', async () => {
    await make({ ...OLD, 'identity.json': 0o644, 'dev.lock': 0o644, 'processes.json': 0o644, 'host/': 0o755 });
    await chmod(root, 0o755);
    await closeHome(root);
    expect(await modes('.', 'logs', 'logs/host.log', 'temporal', 'temporal/temporal.db', 's3')).toEqual([
      '700',
      '700',
      '600',
      '700',
      '600',
      '700',
    ]);
    expect(await modes('identity.json', 'dev.lock', 'processes.json', 'host')).toEqual(['600', '600', '600', '755']);
  });

  it('a home with something else in it is not closed itself, nor what is not its own', async () => {
    await make({ ...OLD, 'photos/': 0o755, 'photos/cat': 0o644, 'device.json': 0o644 });
    await chmod(root, 0o755);
    await closeHome(root);
    expect(await modes('.', 'photos', 'photos/cat', 'device.json', 'logs')).toEqual([
      '755',
      '755',
      '644',
      '644',
      '700',
    ]);
  });
});
