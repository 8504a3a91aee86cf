import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { RootfsProvisioner } from '../../activities/ports.ts';
import type { DiskRef } from '../../domain/vm.ts';
import { mustRun } from '../run-command.ts';
import { diskPath, makeDisk, removeDisks } from './disk-files.ts';
import { probeByDoing } from './probe.ts';

/**
 * A qcow2 file that holds only what differs from the base, for VMMs that read qcow2. An empty one is about 200 KiB and
 * equal for all VMs over one base, so it is made once by qemu-img and written from memory from then on.
 */
export function createQcow2OverlayProvisioner(): RootfsProvisioner {
  const emptyOverlays = new Map<string, Promise<Buffer>>();

  const emptyOverlay = async (base: DiskRef, temporary: string): Promise<Buffer> => {
    const { size, mtimeMs, ino } = await stat(base.path);
    const key = `${base.path}\0${base.format}\0${size}\0${mtimeMs}\0${ino}`;
    let made = emptyOverlays.get(key);
    if (made === undefined) {
      made = makeEmptyOverlay(base, `${temporary}-empty`);
      emptyOverlays.set(key, made);
      made.catch(() => emptyOverlays.delete(key));
    }
    return await made;
  };

  const provisioner: RootfsProvisioner = {
    kind: 'qcow2-overlay',
    probe: (directory) =>
      probeByDoing(provisioner, directory, async (disk, basePath) => {
        await mustRun(['qemu-img', 'compare', '-q', '-f', 'raw', '-F', 'qcow2', basePath, disk.path]);
      }),
    async provision({ base, directory, vmId }) {
      // The path is written into the overlay, so it must not depend on anybody's working directory.
      const below: DiskRef = { path: resolve(base.path), format: base.format };
      const path = diskPath(directory, vmId, below.path, 'qcow2');
      await makeDisk(path, below.path, async (temporary) => {
        await writeFile(temporary, await emptyOverlay(below, temporary), { flag: 'wx', mode: 0o600 });
      });
      return { path, format: 'qcow2', backing: [below, ...(base.backing ?? [])] };
    },
    release: ({ directory, vmId }) => removeDisks(directory, vmId),
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
