/** Checkpoints of real guests' disks: taken while a guest continues, opened for another, refused if they do not fit. */
import { open as openFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readSetupRecord } from '../../config/setup-record.ts';
import { CHECKPOINT_MANIFEST } from '../../contracts/host/checkpoint-manifest.ts';
import type { CachedImage } from '../../domain/vm.ts';
import {
  type CheckpointBases,
  type CheckpointPorts,
  type Checkpoints,
  createCheckpoints,
} from '../../host/disks/checkpoints.ts';
import { drivesOf } from '../../host/disks/drives.ts';
import type { HostVms } from '../../host/vms/vm-host.ts';
import type { AgentChannel } from '../../ports/guest-agent.ts';
import { createImageCache } from '../../rootfs/image/image-cache.ts';
import { createQcow2OverlayProvisioner } from '../../rootfs/provisioners/qcow2-overlay.ts';
import { createSparseCopyProvisioner } from '../../rootfs/provisioners/sparse-copy.ts';
import { createInstanceStore } from '../../vmm/instance-record.ts';
import { identity } from '../conformance/vm-driver/vm-driver-identity.ts';
import { runIn } from '../support/guest/guest-under-test.ts';
import { GUEST_RESOURCES, GuestHost } from '../support/host/guest-host.ts';
import { plainVmSpec } from '../support/host/vm-fixtures.ts';

const BOOT_MS = 60_000;
const READ_BOTH = 'cat /srv/mark /workspace/mark';

describe('checkpoints of disks', () => {
  let bed: GuestHost;
  let ports: CheckpointPorts;
  let checkpoints: Checkpoints;
  let image: CachedImage;

  beforeAll(async () => {
    bed = await GuestHost.start();
    const images = createImageCache({
      imagesDir: bed.imagesDir,
      localBuildsDir: join(readSetupRecord().cacheDir, 'images'),
      store: bed.store,
    });
    const { stateDir } = bed.places;
    const records = createInstanceStore(stateDir);
    const driver = {
      status: (id: string) => bed.driver.status(id),
      pause: (id: string) => bed.driver.pause(id),
      // The host has the channels of the guests, and an agent serves one channel at a time.
      resume: (id: string, options: Parameters<HostVms['resume']>[1]) => bed.host.vms.resume(id, options),
    };
    ports = { stateDir, records, driver, images, resumeMs: BOOT_MS };
    checkpoints = createCheckpoints(ports);
    image = await images.ensure(bed.image.digest);
  });
  afterAll(async () => {
    expect(await bed.close()).toEqual([]);
  });

  const write = (agent: AgentChannel, word: string) =>
    runIn(agent, ['sh', '-c', `echo ${word} > /srv/mark; echo ${word} > /workspace/mark; sync`], { cwd: '/' });
  const read = async (agent: AgentChannel) => (await runIn(agent, ['sh', '-c', READ_BOTH], { cwd: '/' })).stdout;

  /** Boots a guest whose disks are made over those of a checkpoint. */
  async function bootOver(vmId: string, bases: CheckpointBases): Promise<AgentChannel> {
    const directory = createInstanceStore(bed.places.stateDir).directory(vmId);
    const root = await createQcow2OverlayProvisioner().provision({ base: bases.root, directory, vmId });
    const workspace = await createSparseCopyProvisioner().provision({ base: bases.workspace, directory, vmId });
    const { kernelPath, initrdPath, digest } = image;
    const { vcpus, memMib } = GUEST_RESOURCES;
    const spec = { ...plainVmSpec(vmId), vcpus, memMib, kernelPath, initrdPath, imageDigest: digest };
    await bed.driver.prepare({ ...spec, drives: drivesOf(root, workspace) });
    return (await bed.driver.start(vmId, { identity: identity(vmId), deadlineMs: BOOT_MS })).agent;
  }

  it.each(['cold', 'template'] as const)(
    'of a guest started %s: holds what was written, and the guest runs on',
    async (start) => {
      const from = `${start === 'cold' ? 'a' : 'b'}-1-1`;
      await bed.host.templates?.settled();
      const guest = await bed.boot(from, { cold: start === 'cold' });
      expect(guest.start).toBe(start);
      await write(guest.agent, 'before');
      const taken = await checkpoints.take(from, `of-${from}`);
      await write(guest.agent, 'after');
      expect(await read(guest.agent)).toBe('after\nafter\n');
      // A repeated take returns the first checkpoint.
      expect(await checkpoints.take(from, `of-${from}`)).toEqual(taken);
      await bed.release(from);
      const bases = await checkpoints.open(`of-${from}`, { image });
      const next = await bootOver(`next-${from}`, bases);
      expect(await read(next)).toBe('before\nbefore\n');
      await bed.release(`next-${from}`);
      // The guest whose disks were made over it has not changed it.
      expect(await checkpoints.open(`of-${from}`, { image })).toEqual(bases);
    },
  );

  it('of a guest that nobody let go on because the worker died: it goes on by the next one, or by the next try of anybody', async () => {
    const vmId = 'd-1-1';
    const other = 'e-1-1';
    const { agent } = await bed.boot(vmId);
    await bed.boot(other);
    const dying = createCheckpoints({
      ...ports,
      driver: {
        ...ports.driver,
        resume: async () => {
          throw new Error('killed');
        },
      },
    });
    const byAnother = () => checkpoints.take(other, 'of-d').then(() => checkpoints.remove('of-d'));
    for (const goOn of [() => checkpoints.recover(), byAnother, () => checkpoints.take(vmId, 'of-d')]) {
      await expect(dying.take(vmId, 'of-d')).rejects.toThrow('killed');
      expect(await bed.driver.status(vmId)).toMatchObject({ state: 'paused' });
      await goOn();
      expect(await bed.driver.status(vmId)).toMatchObject({ state: 'running' });
      await agent.ping();
    }
    expect(await readdir(join(bed.places.stateDir, 'checkpoints'))).toContain('of-d');
    await checkpoints.remove('of-d');
    await bed.release(vmId, other);
  });

  it('refuses another image, another kernel, another size, a name that is taken, and a file that was changed', async () => {
    const mine = 'of-a-1-1';
    await expect(checkpoints.take('none-1-1', 'other')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(checkpoints.take('c-1-1', mine)).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(checkpoints.take('c-1-1', '../mine')).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    const mismatch = { code: 'CHECKPOINT_MISMATCH' };
    const open = (changed: Partial<CachedImage>, more: { diskMib?: number } = {}) =>
      checkpoints.open(mine, { image: { ...image, ...changed }, ...more });
    const other = '0'.repeat(64);
    await expect(open({ digest: `sha256:${other}` })).rejects.toMatchObject(mismatch);
    await expect(open({ sha256: { ...image.sha256, kernel: other } })).rejects.toMatchObject(mismatch);
    await expect(open({ sha256: { ...image.sha256, rootfs: other } })).rejects.toMatchObject(mismatch);
    await expect(open({}, { diskMib: 1 })).rejects.toMatchObject(mismatch);
    const folder = join(bed.places.stateDir, 'checkpoints', mine);
    for (const name of (await readdir(folder)).filter((file) => file !== CHECKPOINT_MANIFEST)) {
      const disk = await openFile(join(folder, name), 'r+');
      const { size } = await disk.stat();
      const { buffer } = await disk.read(Buffer.alloc(1), 0, 1, size - 1);
      await disk.write(Buffer.from([buffer.readUInt8(0) ^ 1]), 0, 1, size - 1);
      await expect(open({}), name).rejects.toMatchObject({ code: 'CHECKPOINT_CORRUPT' });
      await disk.write(buffer, 0, 1, size - 1);
      await disk.close();
      await open({});
    }
    await checkpoints.remove(mine);
    await expect(open({})).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});
