import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { chooseProvisioner, PROVISIONER_KINDS } from '../../../rootfs/provisioners/choose-provisioner.ts';
import { createEmptyDisks } from '../../../rootfs/provisioners/empty-disks.ts';
import { makeXfsFolder, type XfsFolder } from '../../support/host/xfs-folder.ts';
import { describeProvisioner, provisionOnSmallDisk } from './provisioner-suite.ts';

let xfs: XfsFolder;
beforeAll(async () => {
  xfs = await makeXfsFolder(512);
});
afterAll(() => xfs?.remove());

describeProvisioner({ kind: 'qcow2-overlay', format: 'qcow2', parent: tmpdir, whereSmall: 'DISK_FULL' });
describeProvisioner({ kind: 'reflink', format: 'raw', parent: () => xfs.directory, whereSmall: 'UNSUPPORTED' });
describeProvisioner({ kind: 'ro-base+scratch', format: 'raw', parent: tmpdir, whereSmall: 'DISK_FULL' });
describeProvisioner({ kind: 'sparse-copy', format: 'raw', parent: tmpdir, whereSmall: 'DISK_FULL' });

describe('the choice of a provisioner', () => {
  let root: string;
  let directory: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'kiln-disks-'));
    directory = join(root, 'disks');
  });
  afterEach(() => rm(root, { recursive: true, force: true }));
  const emptyDisks = () => createEmptyDisks(root);

  it('prefers an overlay where the driver can open one, else shared blocks, else a base that is shared as it is', async () => {
    const options = { emptyDisks: emptyDisks() };
    expect((await chooseProvisioner(directory, ['raw', 'qcow2'], options)).kind).toBe('qcow2-overlay');
    expect((await chooseProvisioner(join(xfs.directory, 'disks'), ['raw'], options)).kind).toBe('reflink');
    expect((await chooseProvisioner(directory, ['raw'], options)).kind).toBe('ro-base+scratch');
  });

  it('is made on a full disk too, for the VMs that are there; a new disk is DISK_FULL', async () => {
    const base = join(root, 'rootfs.ext4');
    await writeFile(base, Buffer.alloc(1 << 20, 7));
    expect(await provisionOnSmallDisk('chosen', root, base)).toBe('DISK_FULL');
  });

  it('takes the one asked for, or none', async () => {
    const only = (kind: (typeof PROVISIONER_KINDS)[number]) => ({ emptyDisks: emptyDisks(), only: kind });
    expect((await chooseProvisioner(directory, ['raw', 'qcow2'], only('sparse-copy'))).kind).toBe('sparse-copy');
    await expect(chooseProvisioner(directory, ['raw'], only('qcow2-overlay'))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('cannot open qcow2'),
    });
    await expect(chooseProvisioner(directory, ['raw'], only('reflink'))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('does not share blocks'),
    });
  });

  it('names the reason of each where none works', async () => {
    await writeFile(directory, 'a file');
    const chosen = chooseProvisioner(directory, ['raw', 'qcow2'], { emptyDisks: emptyDisks() });
    await expect(chosen).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      details: { refused: PROVISIONER_KINDS.map((kind) => expect.stringContaining(kind)) },
    });
    expect(await readFile(directory, 'utf8')).toBe('a file');
  });
});

describe('empty disks', () => {
  it('of sizes that nobody has asked for lately are forgotten', async () => {
    const root = await mkdtemp(join(tmpdir(), 'kiln-disks-'));
    try {
      const disks = createEmptyDisks(root);
      for (let mib = 64; mib < 136; mib += 1) await disks.ensure('workspace', mib);
      const names = await readdir(join(root, 'empty-disks'));
      expect(names).toHaveLength(64);
      expect(names).toContain('workspace-135.ext4');
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  });

  it('are made once a size, and anew where a crash of the machine left half of one', async () => {
    const root = await mkdtemp(join(tmpdir(), 'kiln-disks-'));
    try {
      const disks = createEmptyDisks(root);
      const [first, again] = [await disks.ensure('workspace', 64), await disks.ensure('workspace', 64)];
      expect(again).toEqual(first);
      expect(await stat(first.path)).toMatchObject({ size: 64 << 20 });
      expect((await stat(first.path)).mode & 0o777).toBe(0o444);
      expect((await disks.ensure('scratch', 64)).path).not.toBe(first.path);
      await rm(first.path);
      await writeFile(first.path, 'half');
      expect((await stat((await disks.ensure('workspace', 64)).path)).size).toBe(64 << 20);
    } finally {
      await rm(root, { recursive: true, force: true });
    }
  });
});
