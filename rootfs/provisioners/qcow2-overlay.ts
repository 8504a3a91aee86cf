import { readFile, rm, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { DiskRef } from '../../domain/vm.ts';
import { mustRun } from '../../linux/run-command.ts';
import type { RootfsProvisioner } from '../../ports/disks.ts';
import { diskPath, makeDisk, removeDisks } from './disk-files.ts';
import { rememberedPerBase } from './per-base.ts';
import { probeByDoing } from './probe.ts';

/**
 * A qcow2 file that holds only what differs from the base, for VMMs that read qcow2. An empty one is about 200 KiB and
 * equal for all VMs over one base, so it is made once by qemu-img and written from memory from then on.
 */
export function createQcow2OverlayProvisioner(): RootfsProvisioner {
  const emptyOverlay = rememberedPerBase((base, temporary) => makeEmptyOverlay(base, `${temporary}-empty`));
  const provisioner: RootfsProvisioner = {
    kind: 'qcow2-overlay',
    probe: (directory) =>
      probeByDoing(provisioner, directory, async (disk, basePath) => {
        await mustRun(['qemu-img', 'compare', '-q', '-f', 'raw', '-F', 'qcow2', basePath, disk.path]);
      }),
    async provision({ base, directory, vmId }) {
      // The path is written into the overlay, so it must not depend on a working directory.
      const below: DiskRef = { path: resolve(base.path), format: base.format };
      const path = diskPath(directory, vmId, below.path, 'qcow2');
      await makeDisk(path, below.path, async (temporary) => {
        await writeFile(temporary, await emptyOverlay(below, temporary), { flag: 'wx', mode: 0o600 });
      });
      return { path, format: 'qcow2', backing: [below, ...(base.backing ?? [])] };
    },
    release: removeDisks,
  };
  return provisioner;
}

async function makeEmptyOverlay(base: DiskRef, temporary: string): Promise<Buffer> {
  try {
    await mustRun(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', base.format, '-b', base.path, temporary]);
    return await readFile(temporary);
  } finally {
    await rm(temporary, { force: true });
  }
}
