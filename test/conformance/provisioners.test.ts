/** One suite for every way to make a VM's disk. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { DiskRef, RootfsProvisioner } from '../../activities/ports.ts';
import type { DiskFormat } from '../../domain/vm.ts';
import { hashFile } from '../../rootfs/image/manifest.ts';
import { chooseProvisioner } from '../../rootfs/provisioners/choose-provisioner.ts';
import { createQcow2OverlayProvisioner } from '../../rootfs/provisioners/qcow2-overlay.ts';
import { createSparseCopyProvisioner } from '../../rootfs/provisioners/sparse-copy.ts';

const exec = promisify(execFile);
const MIB = 1 << 20;
const BASE_MIB = 64;

let root: string;
let basePath: string;
let directory: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kiln-disks-'));
  directory = join(root, 'disks');
  basePath = join(root, 'rootfs.ext4');
  const file = await open(basePath, 'wx');
  await file.write(randomBytes(MIB));
  await file.truncate(BASE_MIB * MIB);
  await file.write(randomBytes(4096), 0, 4096, 40 * MIB);
  await file.chmod(0o444);
  await file.close();
});

afterEach(async () => {
  await rm(root, { recursive: true, force: true });
});

/** Reads and writes a disk as a VMM would, whatever its format. */
const qemuIo = async (disk: DiskRef, command: string): Promise<string> =>
  (await exec('qemu-io', ['-f', disk.format, '-c', command, disk.path])).stdout;
const equalToBase = async (disk: DiskRef): Promise<boolean> =>
  exec('qemu-img', ['compare', '-q', '-f', 'raw', '-F', disk.format, basePath, disk.path]).then(
    () => true,
    () => false,
  );

const KINDS: readonly [RootfsProvisioner['kind'], DiskFormat, () => RootfsProvisioner][] = [
  ['qcow2-overlay', 'qcow2', createQcow2OverlayProvisioner],
  ['sparse-copy', 'raw', createSparseCopyProvisioner],
];

describe.each(KINDS)('%s', (kind, format, create) => {
  it('says what it is and proves itself, leaving nothing', async () => {
    const provisioner = create();
    expect(provisioner.kind).toBe(kind);
    expect(await provisioner.probe(directory)).toEqual({ ok: true });
    expect(await readdir(directory)).toEqual([]);
  });

  it('says why it cannot work in a folder', async () => {
    await writeFile(directory, 'a file');
    const probe = await create().probe(directory);
    expect(probe.ok).toBe(false);
    expect(probe.reason).toMatch(/EEXIST|ENOTDIR/);
  });

  it('makes a private disk with the content and size of the base', async () => {
    const disk = await create().provision({ basePath, directory, vmId: 'a-1-1' });
    expect(disk.format).toBe(format);
    expect(await equalToBase(disk)).toBe(true);
    expect((await stat(disk.path)).mode & 0o777).toBe(0o600);
    const info: unknown = JSON.parse((await exec('qemu-img', ['info', '--output=json', disk.path])).stdout);
    expect(info).toMatchObject({ 'virtual-size': BASE_MIB * MIB, format });
  });

  it('costs far less space than the base is large', async () => {
    const disk = await create().provision({ basePath, directory, vmId: 'a-1-1' });
    expect((await stat(disk.path)).blocks * 512).toBeLessThan(8 * MIB);
  });

  it('gives each VM a disk of its own and never writes the base', async () => {
    const provisioner = create();
    const before = await hashFile(basePath);
    const first = await provisioner.provision({ basePath, directory, vmId: 'a-1-1' });
    const second = await provisioner.provision({ basePath, directory, vmId: 'a-1-10' });
    await qemuIo(first, 'write -P 0xab 0 64k');
    expect(await qemuIo(first, 'read -P 0xab 0 64k')).not.toMatch(/verification failed/i);
    expect(await equalToBase(second)).toBe(true);
    expect(await hashFile(basePath)).toEqual(before);
  });

  it('finds the disk again on a retry, with what was written, also in another process', async () => {
    const disk = await create().provision({ basePath, directory, vmId: 'a-1-1' });
    await qemuIo(disk, 'write -P 0xab 0 64k');
    expect(await create().provision({ basePath, directory, vmId: 'a-1-1' })).toEqual(disk);
    expect(await qemuIo(disk, 'read -P 0xab 0 64k')).not.toMatch(/verification failed/i);
  });

  it('makes one whole disk when asked many times at once, and never replaces it', async () => {
    const provisioner = create();
    const request = { basePath, directory, vmId: 'a-1-1' };
    const calls = Array.from({ length: 8 }, () => provisioner.provision(request));
    const first = await Promise.race(calls);
    const { ino } = await stat(first.path);
    expect(await Promise.all(calls)).toEqual(Array.from({ length: 8 }, () => first));
    expect((await stat(first.path)).ino).toBe(ino);
    expect(await equalToBase(first)).toBe(true);
    expect(await readdir(directory)).toHaveLength(1);
  });

  it('gives one VM a disk over each of two bases', async () => {
    const provisioner = create();
    const other = join(root, 'workspace.ext4');
    await writeFile(other, Buffer.alloc(MIB, 7));
    const disk = await provisioner.provision({ basePath, directory, vmId: 'a-1-1' });
    const workspace = await provisioner.provision({ basePath: other, directory, vmId: 'a-1-1' });
    expect(workspace.path).not.toBe(disk.path);
    await provisioner.release({ directory, vmId: 'a-1-1' });
    expect(await readdir(directory)).toEqual([]);
  });

  it('releases only what belongs to the VM, twice, with what a killed call left', async () => {
    const provisioner = create();
    const kept = await provisioner.provision({ basePath, directory, vmId: 'a-1-10' });
    const disk = await provisioner.provision({ basePath, directory, vmId: 'a-1-1' });
    await writeFile(`${disk.path}.new-0123456789ab`, 'half');
    await provisioner.release({ directory, vmId: 'a-1-1' });
    await provisioner.release({ directory, vmId: 'a-1-1' });
    expect((await readdir(directory)).map((name) => join(directory, name))).toEqual([kept.path]);
  });

  it('has nothing to release in a folder that never was', async () => {
    await expect(create().release({ directory: join(root, 'nowhere'), vmId: 'a-1-1' })).resolves.toBeUndefined();
  });

  it('says IMAGE_MISSING where the base is gone and leaves nothing', async () => {
    const request = { basePath: join(root, 'gone.ext4'), directory, vmId: 'a-1-1' };
    await expect(create().provision(request)).rejects.toMatchObject({ code: 'IMAGE_MISSING' });
    expect(await readdir(directory)).toEqual([]);
  });

  it('says DISK_FULL on a full file system', async () => {
    expect(await provisionOnFullDisk(kind)).toBe('DISK_FULL');
  });

  it('refuses a name that could reach outside of the folder', async () => {
    await expect(create().provision({ basePath, directory, vmId: '../x' })).rejects.toMatchObject({ code: 'INTERNAL' });
  });
});

/** @returns what a process prints that makes a disk where there is no room */
async function provisionOnFullDisk(kind: string): Promise<string> {
  const small = join(root, 'small');
  await mkdir(small);
  const script = fileURLToPath(new URL('../fixtures/provision-once.ts', import.meta.url));
  // A mount namespace of its own: the small file system goes with the process.
  const namespace = process.getuid?.() === 0 ? ['--mount'] : ['--mount', '--user', '--map-root-user'];
  const inside = 'mount -t tmpfs -o size=64k none "$1" && exec "$2" "$3" "$4" "$5" "$1"';
  const { stdout } = await exec('unshare', [
    ...namespace,
    ...['sh', '-c', inside, 'sh', small, process.execPath, script, kind, basePath],
  ]);
  return stdout;
}

describe('the choice of a provisioner', () => {
  it('is made on a full disk too, for the VMs that are there; a new disk is DISK_FULL', async () => {
    expect(await provisionOnFullDisk('chosen')).toBe('DISK_FULL');
  });

  it('prefers an overlay where the driver can open one', async () => {
    expect((await chooseProvisioner(directory, ['raw', 'qcow2'])).kind).toBe('qcow2-overlay');
    expect((await chooseProvisioner(directory, ['raw'])).kind).toBe('sparse-copy');
  });

  it('takes the one asked for, or none', async () => {
    expect((await chooseProvisioner(directory, ['raw', 'qcow2'], 'sparse-copy')).kind).toBe('sparse-copy');
    await expect(chooseProvisioner(directory, ['raw'], 'qcow2-overlay')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining('cannot open qcow2'),
    });
  });

  it('names the reason of each where none works', async () => {
    await writeFile(directory, 'a file');
    await expect(chooseProvisioner(directory, ['raw', 'qcow2'])).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      details: { refused: [expect.stringContaining('qcow2-overlay'), expect.stringContaining('sparse-copy')] },
    });
    expect(await readFile(directory, 'utf8')).toBe('a file');
  });
});
