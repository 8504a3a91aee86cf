/** One suite for all ways to make a VM's disk. */
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { watch } from 'node:fs';
import { mkdir, mkdtemp, open, readdir, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { BaseDisk, DiskFormat, DiskRef } from '../../../domain/vm.ts';
import type { ProvisionedDisk, RootfsProvisioner } from '../../../ports/disks.ts';
import { hashFile } from '../../../rootfs/image/manifest.ts';
import type { ProvisionerKind } from '../../../rootfs/provisioners/choose-provisioner.ts';
import { baseIn, createProvisioner, writtenDisk } from '../../support/host/provisioner-kinds.ts';

const exec = promisify(execFile);
const MIB = 1 << 20;
const BASE_MIB = 64;
const SCRATCH_MIB = 96;
const PROVISION_ONCE = fileURLToPath(new URL('../../fixtures/provision-once.ts', import.meta.url));

export interface KindUnderTest {
  readonly kind: ProvisionerKind;
  readonly format: DiskFormat;
  /** Folder in which the disks are made; it decides which file system is used. */
  readonly parent: () => string;
  /** Code of the failure on a small file system in memory. */
  readonly whereSmall: 'DISK_FULL' | 'UNSUPPORTED';
}

/** Recreated for each test. */
interface Bench {
  readonly root: string;
  readonly directory: string;
  readonly base: BaseDisk;
  create(): RootfsProvisioner;
  provision(vmId?: string, provisioner?: RootfsProvisioner): Promise<ProvisionedDisk>;
}

export function describeProvisioner(under: KindUnderTest): void {
  describe(under.kind, () => {
    let root: string;
    beforeEach(async () => {
      root = await mkdtemp(join(under.parent(), 'kiln-disks-'));
      await makeBase(baseIn(root));
    });
    afterEach(() => rm(root, { recursive: true, force: true }));
    const bench: Bench = {
      get root() {
        return root;
      },
      get directory() {
        return join(root, 'disks');
      },
      get base() {
        return { path: baseIn(root), format: 'raw' as const };
      },
      create: () => createProvisioner(under.kind, join(root, 'state')),
      provision: (vmId = 'a-1-1', provisioner = bench.create()) =>
        provisioner.provision({ base: bench.base, directory: bench.directory, vmId, scratchMib: SCRATCH_MIB }),
    };
    describeDisks(bench, under);
    describeNames(bench);
    describeInterruptions(bench, under);
  });
}

/** Makes a sparse base with data at the beginning and in the middle, which nobody may write. */
async function makeBase(path: string): Promise<void> {
  const file = await open(path, 'wx');
  await file.write(randomBytes(MIB));
  await file.truncate(BASE_MIB * MIB);
  await file.write(randomBytes(4096), 0, 4096, 40 * MIB);
  await file.chmod(0o444);
  await file.close();
}

/** Reads and writes a disk like a VMM, whatever its format. */
const qemuIo = async (disk: DiskRef, command: string): Promise<string> =>
  (await exec('qemu-io', ['-f', disk.format, '-c', command, disk.path])).stdout;

async function holds(disk: DiskRef, pattern: string, range: string): Promise<boolean> {
  return !/verification failed/i.test(await qemuIo(disk, `read -P ${pattern} ${range}`));
}

/** Whether a guest that has not written anything sees exactly the base. */
async function isFresh(disk: ProvisionedDisk, base: BaseDisk): Promise<boolean> {
  if (disk.scratch !== undefined && (disk.path !== base.path || !disk.readOnly)) return false;
  const compare = ['compare', '-q', '-f', 'raw', '-F', disk.format, base.path, disk.path];
  const [same] = await Promise.allSettled([exec('qemu-img', compare)]);
  const check = disk.scratch === undefined ? [] : [exec('e2fsck', ['-fn', disk.scratch.path])];
  return same.status === 'fulfilled' && (await Promise.allSettled(check)).every(({ status }) => status === 'fulfilled');
}

function describeDisks(bench: Bench, { kind, format }: KindUnderTest): void {
  it('says what it is and proves itself, leaving nothing', async () => {
    const provisioner = bench.create();
    expect(provisioner.kind).toBe(kind);
    expect(await provisioner.probe(bench.directory)).toEqual({ ok: true });
    expect(await readdir(bench.directory)).toEqual([]);
  });

  it('says why it cannot work in a folder', async () => {
    await writeFile(bench.directory, 'a file');
    const probe = await bench.create().probe(bench.directory);
    expect(probe.ok).toBe(false);
    expect(probe.reason).toMatch(/EEXIST|ENOTDIR/);
  });

  it('makes a private disk of the asked format and size, with the content of the base', async () => {
    const disk = await bench.provision();
    const written = writtenDisk(disk);
    expect(written.format).toBe(format);
    expect(await isFresh(disk, bench.base)).toBe(true);
    expect((await stat(written.path)).mode & 0o777).toBe(0o600);
    const info: unknown = JSON.parse((await exec('qemu-img', ['info', '--output=json', written.path])).stdout);
    const mib = disk.scratch === undefined ? BASE_MIB : SCRATCH_MIB;
    expect(info).toMatchObject({ 'virtual-size': mib * MIB, format });
  });

  it('costs far less space than the disk is large', async () => {
    expect((await stat(writtenDisk(await bench.provision()).path)).blocks * 512).toBeLessThan(8 * MIB);
  });

  it('gives each VM a disk of its own and never writes the base', async () => {
    const provisioner = bench.create();
    const before = await hashFile(bench.base.path);
    const first = await bench.provision('a-1-1', provisioner);
    const second = await bench.provision('a-1-10', provisioner);
    await qemuIo(writtenDisk(first), 'write -P 0xab 0 64k');
    expect(await holds(writtenDisk(first), '0xab', '0 64k')).toBe(true);
    expect(await isFresh(second, bench.base)).toBe(true);
    expect(await hashFile(bench.base.path)).toEqual(before);
  });

  it('gives the next boot a disk that nobody has written', async () => {
    await qemuIo(writtenDisk(await bench.provision('a-1-1')), 'write -P 0xab 0 64k');
    expect(await isFresh(await bench.provision('a-1-2'), bench.base)).toBe(true);
  });

  it('makes a disk over one that is itself frozen, and writes neither it nor what it lies over', async () => {
    const provisioner = bench.create();
    // The disk of a template: from the same provisioner, or in another format for those that copy.
    const maker = kind === 'ro-base+scratch' ? provisioner : createProvisioner('qcow2-overlay', bench.root);
    const frozen = await maker.provision({ base: bench.base, directory: bench.root, vmId: 't-1-1' });
    await qemuIo(writtenDisk(frozen), 'write -P 0xcd 0 64k');
    const files = [bench.base.path, writtenDisk(frozen).path];
    const before = await Promise.all(files.map((path) => hashFile(path)));
    const { directory } = bench;
    const first = await provisioner.provision({ base: frozen, directory, vmId: 'a-1-1' });
    const second = await provisioner.provision({ base: frozen, directory, vmId: 'a-1-10' });
    await qemuIo(writtenDisk(first), 'write -P 0xab 0 4k');
    expect(await holds(writtenDisk(first), '0xcd', '4k 60k')).toBe(true);
    expect(await holds(writtenDisk(second), '0xcd', '0 64k')).toBe(true);
    expect(await Promise.all(files.map((path) => hashFile(path)))).toEqual(before);
    expect([first.path, ...(first.backing ?? []).map(({ path }) => path)]).toContain(bench.base.path);
  });
}

function describeNames(bench: Bench): void {
  it('gives one VM a disk over each of two bases', async () => {
    const provisioner = bench.create();
    const disk = await bench.provision('a-1-1', provisioner);
    const other = join(bench.root, 'workspace.ext4');
    await writeFile(other, Buffer.alloc(MIB, 7));
    const { directory } = bench;
    const second = await provisioner.provision({ base: { path: other, format: 'raw' }, directory, vmId: 'a-1-1' });
    expect(second.path).not.toBe(disk.path);
    await provisioner.release({ directory, vmId: 'a-1-1', disks: [] });
    expect(await readdir(directory)).toEqual([]);
  });

  it('releases only what belongs to the VM, twice, with what a killed call left', async () => {
    const provisioner = bench.create();
    const kept = writtenDisk(await bench.provision('a-1-10', provisioner));
    const disk = writtenDisk(await bench.provision('a-1-1', provisioner));
    await writeFile(`${disk.path}.new-0123456789ab`, 'half');
    const { directory } = bench;
    await provisioner.release({ directory, vmId: 'a-1-1', disks: [] });
    await provisioner.release({ directory, vmId: 'a-1-1', disks: [] });
    expect((await readdir(directory)).map((name) => join(directory, name))).toEqual([kept.path]);
  });

  it('has nothing to release in a folder that never was', async () => {
    const directory = join(bench.root, 'nowhere');
    await expect(bench.create().release({ directory, vmId: 'a-1-1', disks: [] })).resolves.toBeUndefined();
  });

  it('says IMAGE_MISSING where the base is gone and leaves nothing', async () => {
    await rm(bench.base.path);
    await expect(bench.provision()).rejects.toMatchObject({ code: 'IMAGE_MISSING' });
    expect(await readdir(bench.directory)).toEqual([]);
  });

  it('refuses a name that could reach outside of the folder', async () => {
    await expect(bench.provision('../x')).rejects.toMatchObject({ code: 'INTERNAL' });
  });
}

function describeInterruptions(bench: Bench, { kind, whereSmall }: KindUnderTest): void {
  it('finds the disk again on a retry, with what was written, also in another process', async () => {
    const disk = await bench.provision();
    await qemuIo(writtenDisk(disk), 'write -P 0xab 0 64k');
    expect(await bench.provision()).toEqual(disk);
    expect(await holds(writtenDisk(disk), '0xab', '0 64k')).toBe(true);
  });

  it('makes one whole disk when asked many times at once, and never replaces it', async () => {
    const provisioner = bench.create();
    const calls = Array.from({ length: 8 }, () => bench.provision('a-1-1', provisioner));
    const first = await Promise.race(calls);
    const { ino } = await stat(writtenDisk(first).path);
    expect(await Promise.all(calls)).toEqual(Array.from({ length: 8 }, () => first));
    expect((await stat(writtenDisk(first).path)).ino).toBe(ino);
    expect(await isFresh(first, bench.base)).toBe(true);
    expect(await readdir(bench.directory)).toHaveLength(1);
  });

  it('killed while it makes a disk, leaves what the next call completes and a release removes', async () => {
    const { directory, base } = bench;
    await mkdir(directory);
    const words = [PROVISION_ONCE, kind, join(bench.root, 'state'), base.path, directory];
    for (let kill = 0; kill < 5; kill += 1) {
      const child = spawn(process.execPath, words, { stdio: 'ignore' });
      const ended = once(child, 'exit');
      // The first file that appears is half a disk, or a whole one if it is made that quickly.
      const seen = new AbortController();
      const watching = watch(directory, { signal: seen.signal }, () => child.kill('SIGKILL'));
      await ended;
      seen.abort();
      watching.close();
      const disk = await bench.provision('once-0-0');
      expect(await isFresh(disk, base)).toBe(true);
      await bench.create().release({ directory, vmId: 'once-0-0', disks: [] });
      expect(await readdir(directory)).toEqual([]);
    }
  });

  it(`says ${whereSmall} on a small file system in memory`, async () => {
    expect(await provisionOnSmallDisk(kind, join(bench.root, 'state'), bench.base.path)).toBe(whereSmall);
  });
}

/** @returns the output of a process that makes a disk over `basePath` with almost no space left */
export async function provisionOnSmallDisk(kind: string, stateDir: string, basePath: string): Promise<string> {
  const small = await mkdtemp(join(tmpdir(), 'kiln-small-'));
  // In a mount namespace of its own, so that the small file system disappears with the process.
  const namespace = process.getuid?.() === 0 ? ['--mount'] : ['--mount', '--user', '--map-root-user'];
  const inside = 'mount -t tmpfs -o size=64k none "$1" && exec "$2" "$3" "$4" "$5" "$6" "$1"';
  const words = [small, process.execPath, PROVISION_ONCE, kind, stateDir, basePath];
  const { stdout } = await exec('unshare', [...namespace, 'sh', '-c', inside, 'sh', ...words]);
  await rmdir(small);
  return stdout;
}
