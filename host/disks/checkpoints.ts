/**
 * Disk checkpoints: copies of a VM's disks, taken while its guest is paused. They name their image and kernel and are
 * refused under any other.
 */

import { mkdir, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import {
  CHECKPOINT_MANIFEST,
  type CheckpointManifest,
  checkpointManifestSchema,
} from '../../contracts/host/checkpoint-manifest.ts';
import type { InstanceRecord } from '../../contracts/host/instance-record.ts';
import { KilnError } from '../../domain/failures.ts';
import type { BaseDisk, CachedImage, DriveSpec } from '../../domain/vm.ts';
import { directoryEntries } from '../../linux/directory-entries.ts';
import { mustRun } from '../../linux/run-command.ts';
import { readStateFile, removeStateFile, writeStateFile } from '../../linux/state-file.ts';
import { syncDirectory } from '../../linux/sync-directory.ts';
import type { ImageCache } from '../../ports/images.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import { digestDisk } from './disk-digest.ts';
import { ROOT_SERIAL, SCRATCH_SERIAL, WORKSPACE_SERIAL } from './drives.ts';

export interface CheckpointPorts {
  readonly stateDir: string;
  readonly records: InstanceStore;
  readonly driver: Pick<VmDriver, 'pause' | 'resume' | 'status'>;
  readonly images: ImageCache;
  /** How long a guest may take to answer after it is resumed, ms. */
  readonly resumeMs: number;
}

/** Base disks for a VM, in place of those of an image. */
export interface CheckpointBases {
  readonly root: BaseDisk;
  readonly workspace: BaseDisk;
}

export interface Checkpoints {
  /**
   * Copies the disks of a VM as they are at one moment, without what its guest has not written out yet. A name that a
   * complete checkpoint of the same VM has is found again. @throws NOT_FOUND, CONFLICT, DISK_FULL
   */
  take(vmId: string, checkpointId: string): Promise<CheckpointManifest>;
  /**
   * @returns what to make disks over
   * @throws NOT_FOUND; CHECKPOINT_MISMATCH where it belongs to another image or kernel, or to a disk of another size;
   * CHECKPOINT_CORRUPT where a file is not what was copied
   */
  open(checkpointId: string, wanted: { image: CachedImage; diskMib?: number }): Promise<CheckpointBases>;
  /** Resumes every VM that a dead process had paused, and removes the unfinished copies. */
  recover(): Promise<void>;
  /** Disks made over it keep their open files; no new disk can be made over it. Unknown id: nothing to do. */
  remove(checkpointId: string): Promise<void>;
}

/** @returns the checkpoints below `<stateDir>/checkpoints/`. */
export function createCheckpoints(ports: CheckpointPorts): Checkpoints {
  const all = join(ports.stateDir, 'checkpoints');
  const place = (id: string) => join(all, checkedId(id));
  const find = (id: string) => readStateFile(join(place(id), CHECKPOINT_MANIFEST), checkpointManifestSchema);
  return {
    async take(vmId, checkpointId) {
      const known = await find(checkpointId);
      if (known?.vmId === vmId) return known;
      if (known !== undefined) throw new KilnError('CONFLICT', `Checkpoint ${checkpointId} is of ${known.vmId}.`);
      const record = await ports.records.read(vmId);
      if (record === undefined) throw new KilnError('NOT_FOUND', `There is no VM ${vmId} on this host.`, { vmId });
      const fresh = `${place(checkpointId)}${UNFINISHED}`;
      // Left by an attempt that died, maybe with another VM: removing its record first would leave that VM paused.
      await resumePaused(ports, fresh);
      await mkdir(fresh, { recursive: true, mode: 0o700 });
      try {
        const disks = await whilePaused(ports, vmId, fresh, () => copyDisks(record, fresh));
        const image = await ports.images.ensure(record.imageDigest);
        const manifest = await manifestOf({ checkpointId, record, disks, image, directory: fresh });
        await writeStateFile(join(fresh, CHECKPOINT_MANIFEST), manifest);
        await rename(fresh, place(checkpointId));
        await syncDirectory(all);
        return manifest;
      } finally {
        // A paused VM keeps its record: without it nothing would resume the VM.
        if (!(await isPausedFor(fresh))) await rm(fresh, { recursive: true, force: true });
      }
    },
    async open(checkpointId, wanted) {
      const manifest = await find(checkpointId);
      if (manifest === undefined) throw new KilnError('NOT_FOUND', `There is no checkpoint ${checkpointId}.`);
      assertSame(manifest, wanted);
      await assertWhole(manifest, place(checkpointId));
      return basesOf(manifest, place(checkpointId), wanted.image);
    },
    remove: (checkpointId) => rm(place(checkpointId), { recursive: true, force: true }),
    async recover() {
      for (const name of await directoryEntries(all)) {
        if (!name.endsWith(UNFINISHED)) continue;
        await resumePaused(ports, join(all, name));
        await rm(join(all, name), { recursive: true, force: true });
      }
    },
  };
}

/** Suffix of a checkpoint that is being taken. */
const UNFINISHED = '.new';
/** File in it that names the VM paused for it, written before the pause: a later process can then resume the VM. */
const PAUSED_RECORD = 'paused.json';
const pausedSchema = z.strictObject({ vmId: z.string().min(1).max(256) });

function checkedId(id: string): string {
  if (/^[a-z0-9][a-z0-9-]{0,63}$/.test(id)) return id;
  throw new KilnError('SPEC_INVALID', `"${id.slice(0, 64)}" is no checkpoint id: 1-64 of [a-z0-9-], no leading "-"`);
}

/** Once its guest is paused, a VMM has written everything it has to the disk files. */
async function whilePaused<T>(
  ports: CheckpointPorts,
  vmId: string,
  directory: string,
  work: () => Promise<T>,
): Promise<T> {
  const { state } = await ports.driver.status(vmId);
  if (state === 'running') {
    await writeStateFile(join(directory, PAUSED_RECORD), { vmId });
    await ports.driver.pause(vmId);
  }
  try {
    return await work();
  } finally {
    await resumePaused(ports, directory);
  }
}

const isPausedFor = async (directory: string) =>
  (await readStateFile(join(directory, PAUSED_RECORD), pausedSchema)) !== undefined;

/** Resumes the VM that was paused for the checkpoint in this directory, by this process or by a dead one. */
async function resumePaused({ driver, resumeMs }: CheckpointPorts, directory: string): Promise<void> {
  const paused = await readStateFile(join(directory, PAUSED_RECORD), pausedSchema);
  if (paused === undefined) return;
  const { state } = await driver.status(paused.vmId);
  if (state === 'paused') await driver.resume(paused.vmId, { wallClockMs: Date.now, deadlineMs: resumeMs });
  await removeStateFile(join(directory, PAUSED_RECORD));
}

type CopiedDisk = Pick<CheckpointManifest['disks'][number], 'serial' | 'name' | 'format' | 'overImage'>;

async function copyDisks(record: InstanceRecord, directory: string): Promise<CopiedDisk[]> {
  const copied: CopiedDisk[] = [];
  for (const drive of record.drives.filter(({ readOnly }) => !readOnly)) {
    const name = `${drive.serial}.${drive.format}`;
    const path = join(directory, name);
    await mustRun(['cp', '--reflink=auto', '--sparse=always', '--', drive.path, path]);
    await detachFromTemplate(drive, path);
    copied.push({ serial: drive.serial, name, format: drive.format, overImage: drive.backing !== undefined });
  }
  return copied;
}

/** Copies what a template's disk holds into the checkpoint: it then needs only the image, and the template may go. */
async function detachFromTemplate({ backing }: DriveSpec, path: string): Promise<void> {
  const image = backing?.at(-1);
  if (image === undefined || backing?.length === 1) return;
  await mustRun(['qemu-img', 'rebase', '-q', '-f', 'qcow2', '-b', image.path, '-F', image.format, path]);
}

async function manifestOf(parts: {
  checkpointId: string;
  record: InstanceRecord;
  disks: readonly CopiedDisk[];
  image: CachedImage;
  directory: string;
}): Promise<CheckpointManifest> {
  const { checkpointId, record, disks, image, directory } = parts;
  const hashed: CheckpointManifest['disks'] = [];
  for (const disk of disks) hashed.push({ ...disk, ...(await digestDisk(join(directory, disk.name))) });
  const workspace = hashed.find(({ serial }) => serial === WORKSPACE_SERIAL);
  return {
    version: 1,
    checkpointId,
    vmId: record.vmId,
    imageDigest: record.imageDigest,
    kernelSha256: image.sha256.kernel,
    rootfsSha256: image.sha256.rootfs,
    resources: {
      vcpus: record.vcpus,
      memMib: record.memMib,
      ...(workspace === undefined ? {} : { diskMib: Math.max(1, Math.floor(workspace.bytes / 2 ** 20)) }),
    },
    disks: hashed,
    createdAt: new Date().toISOString(),
  };
}

function assertSame(manifest: CheckpointManifest, { image, diskMib }: { image: CachedImage; diskMib?: number }): void {
  const { checkpointId, imageDigest, kernelSha256, rootfsSha256, resources } = manifest;
  const differs = (what: string, was: string, is: string) =>
    new KilnError('CHECKPOINT_MISMATCH', `Checkpoint ${checkpointId} belongs to ${what} ${was}, not to ${is}.`, {
      checkpointId,
    });
  if (imageDigest !== image.digest) throw differs('the image', imageDigest, image.digest);
  const { kernel, rootfs } = image.sha256;
  if (kernel !== kernelSha256) throw differs('the kernel', kernelSha256, kernel);
  if (rootfs !== rootfsSha256) throw differs('the root file system', rootfsSha256, rootfs);
  if (diskMib !== undefined && diskMib !== resources.diskMib) {
    throw differs('a workspace of', `${resources.diskMib} MiB`, `one of ${diskMib} MiB`);
  }
}

async function assertWhole({ checkpointId, disks }: CheckpointManifest, directory: string): Promise<void> {
  for (const { name, bytes, sha256 } of disks) {
    const found = await digestDisk(join(directory, name)).catch(() => undefined);
    if (found?.bytes === bytes && found.sha256 === sha256) continue;
    throw new KilnError('CHECKPOINT_CORRUPT', `${name} of checkpoint ${checkpointId} is not what was copied.`, {
      file: join(directory, name),
    });
  }
}

function basesOf({ disks }: CheckpointManifest, directory: string, image: CachedImage): CheckpointBases {
  const of = (serial: string): BaseDisk | undefined => {
    const disk = disks.find((each) => each.serial === serial);
    if (disk === undefined) return undefined;
    const base = { path: join(directory, basename(disk.name)), format: disk.format };
    return disk.overImage ? { ...base, backing: [{ path: image.rootfsPath, format: 'raw' }] } : base;
  };
  const scratch = of(SCRATCH_SERIAL);
  const root = of(ROOT_SERIAL) ?? { path: image.rootfsPath, format: 'raw', ...(scratch && { scratch }) };
  const workspace = of(WORKSPACE_SERIAL);
  if (workspace === undefined) throw new KilnError('CHECKPOINT_CORRUPT', 'A checkpoint without a workspace.');
  return { root, workspace };
}
