import { chmod, open, stat } from 'node:fs/promises';
import type { RootfsProvisioner } from '../../activities/ports.ts';
import { mustRun } from '../run-command.ts';
import { diskPath, makeDisk, removeDisks } from './disk-files.ts';
import { probeByDoing } from './probe.ts';

/**
 * A raw copy of the base that leaves its holes out: works on every file system and for every VMM, and costs time and
 * space in proportion to what the base really holds.
 */
export function createSparseCopyProvisioner(): RootfsProvisioner {
  const provisioner: RootfsProvisioner = {
    kind: 'sparse-copy',
    probe: (directory) =>
      probeByDoing(provisioner, directory, async (disk, basePath) => {
        await mustRun(['cmp', basePath, disk.path]);
        const [base, copy] = [await stat(basePath), await stat(disk.path)];
        if (copy.blocks * 512 > copy.size / 2) {
          throw new Error(
            `the file system keeps no holes (base ${base.blocks * 512}, copy ${copy.blocks * 512} bytes)`,
          );
        }
      }),
    async provision({ basePath, directory, vmId }) {
      const path = diskPath(directory, vmId, basePath, 'raw');
      await makeDisk(path, basePath, async (temporary) => {
        await makeEmptyFile(temporary);
        // cp asks the file system for the holes (SEEK_HOLE), which Node cannot.
        await mustRun(['cp', '--reflink=never', '--sparse=auto', '--', basePath, temporary]);
        await chmod(temporary, 0o600);
      });
      return { path, format: 'raw' };
    },
    release: ({ directory, vmId }) => removeDisks(directory, vmId),
  };
  return provisioner;
}

/** Before the first byte is in it, nobody else may read it. */
async function makeEmptyFile(path: string): Promise<void> {
  await (await open(path, 'wx', 0o600)).close();
}
