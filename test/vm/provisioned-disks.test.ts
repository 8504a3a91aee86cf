import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readSetupRecord } from '../../config/setup-record.ts';
import type { BaseDisk } from '../../domain/vm.ts';
import { drivesOf } from '../../host/disks/drives.ts';
import type { AgentChannel } from '../../ports/guest-agent.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import { readManifest } from '../../rootfs/image/local-images.ts';
import { hashFile } from '../../rootfs/image/manifest.ts';
import { PROVISIONER_KINDS, type ProvisionerKind } from '../../rootfs/provisioners/choose-provisioner.ts';
import { createEmptyDisks } from '../../rootfs/provisioners/empty-disks.ts';
import { createSparseCopyProvisioner } from '../../rootfs/provisioners/sparse-copy.ts';
import { createQemuDriver } from '../../vmm/qemu/qemu-driver.ts';
import { identity } from '../conformance/vm-driver/vm-driver-identity.ts';
import { runIn } from '../support/guest/guest-under-test.ts';
import { sparseCopy } from '../support/host/full-copy.ts';
import { type Places, whatIsLeft } from '../support/host/nothing-left.ts';
import { createProvisioner } from '../support/host/provisioner-kinds.ts';
import { plainVmSpec, silentLog, testTscRate, vmUsers } from '../support/host/vm-fixtures.ts';
import { makeXfsFolder, type XfsFolder } from '../support/host/xfs-folder.ts';

const BOOT_MS = 120_000;
/** Size of the workspace, and of a scratch disk. */
const QUOTA_MIB = 64;

describe('disks of every kind in guests', () => {
  const { image, cacheDir } = readSetupRecord();
  const rootfs = join(image.directory, 'rootfs.ext4');
  let root: string;
  let places: Places;
  let driver: VmDriver;
  let xfs: XfsFolder;

  beforeAll(async () => {
    xfs = await makeXfsFolder(4096);
    await sparseCopy(rootfs, join(xfs.directory, 'rootfs.ext4'));
  });
  afterAll(() => xfs?.remove());

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'kp-'));
    // The users of VMMs must be able to reach their sockets below it.
    await chmod(root, 0o711);
    places = { stateDir: join(root, 's'), runtimeDir: join(root, 'r') };
    const base = { ...places, log: silentLog, tscKhz: testTscRate, accel: 'tcg' } as const;
    driver = createQemuDriver({ ...base, ...vmUsers(places.stateDir) });
  });
  afterEach(async () => {
    for (const vmId of await driver.list()) await driver.destroy(vmId);
    expect(await whatIsLeft(places)).toEqual([]);
    await rm(root, { recursive: true, force: true });
  });

  async function boot(kind: ProvisionerKind, vmId: string): Promise<AgentChannel> {
    // Blocks can be shared only within one file system.
    const place = kind === 'reflink' ? xfs.directory : root;
    const base: BaseDisk = { path: kind === 'reflink' ? join(place, 'rootfs.ext4') : rootfs, format: 'raw' };
    const directory = join(place, 'disks');
    await mkdir(directory, { recursive: true });
    const empty = await createEmptyDisks(root).ensure('workspace', QUOTA_MIB);
    const request = { base, directory, vmId, scratchMib: QUOTA_MIB };
    const disk = await createProvisioner(kind, root).provision(request);
    const workspace = await createSparseCopyProvisioner().provision({ base: empty, directory, vmId });
    await driver.prepare({
      ...plainVmSpec(vmId),
      kernelPath: join(image.directory, 'vmlinux'),
      initrdPath: join(image.directory, 'initrd'),
      imageDigest: image.digest,
      drives: drivesOf(disk, workspace),
    });
    return (await driver.start(vmId, { identity: identity(vmId), deadlineMs: BOOT_MS })).agent;
  }

  /** Writes until the disk is full. @returns the error output, and how many whole MiB the file has */
  async function fill(agent: AgentChannel, path: string): Promise<{ said: string; mib: number }> {
    const { stderr } = await runIn(agent, ['dd', 'if=/dev/zero', `of=${path}`, 'bs=1M']);
    const { stdout } = await runIn(agent, ['stat', '-c', '%s', path]);
    return { said: stderr, mib: Math.floor(Number(stdout) / 2 ** 20) };
  }

  it.each(PROVISIONER_KINDS)('%s: a guest writes its own root and its workspace up to the quota', async (kind) => {
    const agent = await boot(kind, 'a-1-1');
    const write = 'echo changed > /etc/debian_version && rm /etc/os-release && cat /etc/debian_version';
    expect(await runIn(agent, ['sh', '-c', write])).toMatchObject({ stdout: 'changed\n', code: 0 });
    const filled = await fill(agent, '/workspace/big');
    expect(filled.said).toContain('No space left on device');
    expect(filled.mib).toBeGreaterThan(QUOTA_MIB / 2);
    expect(filled.mib).toBeLessThan(QUOTA_MIB);
    // The guest still runs, and the disks that are not full can be written.
    expect(await runIn(agent, ['sh', '-c', 'echo more > /etc/more && cat /etc/more'])).toMatchObject({ code: 0 });
    expect(await runIn(agent, ['sh', '-c', 'rm /workspace/big && echo x > /workspace/x'])).toMatchObject({ code: 0 });
  });

  it('ro-base+scratch: a guest that fills its root gets no space there, and its neighbour writes on', async () => {
    const [filler, neighbour] = [await boot('ro-base+scratch', 'a-1-1'), await boot('ro-base+scratch', 'b-1-1')];
    const filled = await fill(filler, '/var/big');
    expect(filled.said).toContain('No space left on device');
    expect(filled.mib).toBeLessThan(QUOTA_MIB);
    const look = 'ls /var/big; echo mine > /var/mine && cat /var/mine /etc/os-release | head -c 5';
    expect(await runIn(neighbour, ['sh', '-c', look])).toMatchObject({ stdout: 'mine\n', code: 0 });
    const both = 'rm /var/big && echo again > /var/again && cat /var/again';
    expect(await runIn(filler, ['sh', '-c', both])).toMatchObject({ stdout: 'again\n', code: 0 });
  });

  it('leave the image as its manifest says', async () => {
    const manifest = await readManifest(join(cacheDir, 'images'), image.digest);
    const { sha256 } = manifest?.files.find(({ name }) => name === 'rootfs.ext4') ?? {};
    expect((await hashFile(rootfs)).sha256).toBe(sha256);
    expect((await hashFile(join(xfs.directory, 'rootfs.ext4'))).sha256).toBe(sha256);
  });
});
