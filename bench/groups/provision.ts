import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readSetupRecord } from '../../config/setup-record.ts';
import type { BaseDisk } from '../../domain/vm.ts';
import type { RootfsProvisioner } from '../../ports/disks.ts';
import { createEmptyDisks } from '../../rootfs/provisioners/empty-disks.ts';
import { createQcow2OverlayProvisioner } from '../../rootfs/provisioners/qcow2-overlay.ts';
import { createReflinkProvisioner } from '../../rootfs/provisioners/reflink.ts';
import { createRoBaseScratchProvisioner } from '../../rootfs/provisioners/ro-base-scratch.ts';
import { createSparseCopyProvisioner } from '../../rootfs/provisioners/sparse-copy.ts';
import { fullCopy, makeFullImage } from '../../test/support/host/full-copy.ts';
import { makeXfsFolder } from '../../test/support/host/xfs-folder.ts';
import type { Measurement } from '../figure.ts';
import type { GroupOptions } from '../group-options.ts';

const IMAGE_BYTES = 3 * 1024 ** 3;
const XFS_MIB = 16 * 1024;
/** Seconds each: a few are enough to tell them from milliseconds. */
const COPIES = 3;

/**
 * The root disk of one VM over an image of 3 GB with every block allocated, all on one XFS, so that each way can
 * work. What is made once for an image (an empty overlay, an empty file system) is made before, as it is on a host that
 * has booted one VM. The rival: a full copy of the image, without waiting for it to reach the disk.
 */
export async function measureProvision({ n, say, signal }: GroupOptions): Promise<readonly Measurement[]> {
  const xfs = await makeXfsFolder(XFS_MIB);
  try {
    say('provision: a base image of 3 GB');
    const base: BaseDisk = { path: join(xfs.directory, 'rootfs.ext4'), format: 'raw' };
    await makeFullImage(join(readSetupRecord().image.directory, 'rootfs.ext4'), base.path, IMAGE_BYTES);
    const { blocks } = await stat(base.path);
    if (blocks * 512 < IMAGE_BYTES) throw new Error('the base image has holes');
    const directory = join(xfs.directory, 'disks');
    await mkdir(directory);
    const copies: number[] = [];
    for (let sample = 0; sample < COPIES; sample += 1) {
      signal.throwIfAborted();
      copies.push(await timed(() => fullCopy(base.path, join(directory, 'copy'))));
      await rm(join(directory, 'copy'));
      say(`provision: full copy ${sample + 1} of ${COPIES}`);
    }
    const rival = { words: 'a full copy of the 3 GB image', samples: copies };
    const measurements: Measurement[] = [];
    for (const provisioner of provisioners(xfs.directory)) {
      // The floor is a full copy itself, over an image without holes.
      const samples = provisioner.kind === 'sparse-copy' ? Math.min(n, COPIES) : n;
      const kiln = await measureOne(provisioner, base, directory, samples, signal);
      measurements.push({ name: `provision ${provisioner.kind}`, unit: 'ms', kiln, rival });
      say(`provision: ${provisioner.kind}`);
    }
    return measurements;
  } finally {
    await xfs.remove();
  }
}

function provisioners(stateDir: string): RootfsProvisioner[] {
  return [
    createQcow2OverlayProvisioner(),
    createReflinkProvisioner(),
    createRoBaseScratchProvisioner(createEmptyDisks(stateDir)),
    createSparseCopyProvisioner(),
  ];
}

async function measureOne(
  provisioner: RootfsProvisioner,
  base: BaseDisk,
  directory: string,
  n: number,
  signal: AbortSignal,
): Promise<number[]> {
  const samples: number[] = [];
  for (let sample = -1; sample < n; sample += 1) {
    signal.throwIfAborted();
    const vmId = `bench-${sample + 1}`;
    const tookMs = await timed(() => provisioner.provision({ base, directory, vmId }));
    if (sample >= 0) samples.push(tookMs);
    await provisioner.release({ directory, vmId, disks: [] });
  }
  return samples;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}
