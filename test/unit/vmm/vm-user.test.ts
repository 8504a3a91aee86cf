import { mkdir, mkdtemp, readdir, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startThrowaway, throwawayPaths, throwawayRecord } from '../../../vmm/qemu/templates/throwaway-guest.ts';
import { makeRuntimeDirectory, spawnAs } from '../../../vmm/vm-user.ts';
import { plainVmSpec } from '../../support/host/vm-fixtures.ts';

describe('the folder of a VM’s sockets', () => {
  let root: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'kiln-run-'));
  });
  afterEach(() => rm(root, { recursive: true }));

  it('is made for its owner only', async () => {
    await makeRuntimeDirectory(join(root, 'run', 'a-1-1'));
    expect((await stat(join(root, 'run', 'a-1-1'))).mode & 0o777).toBe(0o700);
  });

  it('is refused where somebody has put a link in its place', async () => {
    await mkdir(join(root, 'elsewhere'));
    await symlink(join(root, 'elsewhere'), join(root, 'run'));
    await expect(makeRuntimeDirectory(join(root, 'run', 'a-1-1'))).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });
});

describe('a VMM that cannot be started', () => {
  let root: string;
  let image: string;
  let runtimeDirectory: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'kiln-fd-'));
    [image, runtimeDirectory] = [join(root, 'rootfs.ext4'), join(root, 'a-1-1')];
    await writeFile(image, 'an image');
    await mkdir(runtimeDirectory);
  });
  afterEach(() => rm(root, { recursive: true }));

  it('because its state cannot be opened leaves none of its files open here', async () => {
    const started = spawnAs(
      process.getuid?.(),
      { argv: ['true'], files: { own: [], shared: [image], frozen: [] }, statePath: join(root, 'no-state') },
      throwawayPaths(root, runtimeDirectory),
    );
    await expect(started).rejects.toMatchObject({ code: 'TEMPLATE_CORRUPT' });
    expect(await openFiles()).not.toContain(image);
  });

  it('because its log cannot be opened leaves none of its files open here, as a guest of nobody too', async () => {
    const paths = { ...throwawayPaths(root, runtimeDirectory), vmmLog: join(root, 'none', 'vmm.log') };
    const spec = { ...plainVmSpec('a-1-1'), kernelPath: image, initrdPath: image };
    const record = throwawayRecord('a', spec, paths, { uid: process.getuid?.() });
    const machine = { binary: 'true', accel: 'tcg', tbSizeMib: 1, tscKhz: 1_000_000 } as const;
    await expect(startThrowaway(record, paths, machine)).rejects.toMatchObject({ code: 'ENOENT' });
    expect(await openFiles()).not.toContain(image);
  });
});

/** @returns the targets of all file descriptors of this process */
async function openFiles(): Promise<string[]> {
  const all = await readdir('/proc/self/fd');
  // The descriptor that `readdir` used is already closed.
  return Promise.all(all.map((fd) => readlink(join('/proc/self/fd', fd)).catch(() => '')));
}
