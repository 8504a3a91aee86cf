import { readFile, rm, stat, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { RootfsProvisioner } from '../../activities/ports.ts';
import { mustRun } from '../run-command.ts';
import { diskPath, makeDisk, removeDisks } from './disk-files.ts';
import { probeByDoing } from './probe.ts';

/**
 * A qcow2 file that holds only what differs from the base, for VMMs that read qcow2. An empty one is about 200 KiB and
 * equal for all VMs over one base, so it is made once by qemu-img and written from memory from then on.
 */
export function createQcow2OverlayProvisioner(): RootfsProvisioner {
  const emptyOverlays = new Map<string, Promise<Buffer>>();

  const emptyOverlay = async (basePath: string, temporary: string): Promise<Buffer> => {
    const { size, mtimeMs, ino } = await stat(basePath);
    const key = `${basePath}\0${size}\0${mtimeMs}\0${ino}`;
    let made = emptyOverlays.get(key);
    if (made === undefined) {
      made = makeEmptyOverlay(basePath, `${temporary}-empty`);
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
    async provision({ basePath, directory, vmId }) {
      // The path is written into the overlay, so it must not depend on anybody's working directory.
      const base = resolve(basePath);
      const path = diskPath(directory, vmId, base, 'qcow2');
      await makeDisk(path, base, async (temporary) => {
        await writeFile(temporary, await emptyOverlay(base, temporary), { flag: 'wx', mode: 0o600 });
      });
      return { path, format: 'qcow2' };
    },
    release: ({ directory, vmId }) => removeDisks(directory, vmId),
  };
  return provisioner;
}

async function makeEmptyOverlay(basePath: string, temporary: string): Promise<Buffer> {
  try {
    await mustRun(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', basePath, temporary]);
    return await readFile(temporary);
  } finally {
    await rm(temporary, { force: true });
  }
}
