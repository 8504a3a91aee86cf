import { chmod, open, stat } from 'node:fs/promises';
import type { DiskRef } from '../../domain/vm.ts';
import { mustRun } from '../../linux/run-command.ts';
import type { RootfsProvisioner } from '../../ports/disks.ts';
import { diskPath, makeDisk, removeDisks } from './disk-files.ts';
import { rememberedPerBase } from './per-base.ts';
import { probeByDoing } from './probe.ts';
import { readSparseImage, writeSparseImage } from './sparse-image.ts';

/**
 * A copy of the base that leaves its holes out: works on every file system and for every VMM, and costs time and space
 * in proportion to what the base really holds. It has the format of the base.
 */
export function createSparseCopyProvisioner(): RootfsProvisioner {
  const copy = sparseCopier();
  const provisioner: RootfsProvisioner = {
    kind: 'sparse-copy',
    probe: (directory) =>
      probeByDoing(provisioner, directory, async (disk, basePath) => {
        await mustRun(['cmp', basePath, disk.path]);
        const [base, made] = [await stat(basePath), await stat(disk.path)];
        if (made.blocks * 512 > made.size / 2) {
          throw new Error(
            `the file system keeps no holes (base ${base.blocks * 512}, copy ${made.blocks * 512} bytes)`,
          );
        }
      }),
    async provision({ base, directory, vmId }) {
      const path = diskPath(directory, vmId, base.path, base.format);
      await makeDisk(path, base.path, (temporary) => copy(base, temporary));
      return { path, format: base.format, ...(base.backing !== undefined && { backing: base.backing }) };
    },
    release: removeDisks,
  };
  return provisioner;
}

/** @returns what copies a base into a new file without its holes; nobody but its owner may read that. */
export function sparseCopier(): (base: DiskRef, to: string) => Promise<void> {
  const imageOf = rememberedPerBase(({ path }) => readSparseImage(path));
  return async (base, to) => {
    const image = await imageOf(base, to);
    if (image !== undefined) return await writeSparseImage(to, image);
    await makeEmptyFile(to);
    // cp asks the file system for the holes (SEEK_HOLE), which Node cannot.
    await mustRun(['cp', '--reflink=never', '--sparse=auto', '--', base.path, to]);
    await chmod(to, 0o600);
  };
}

/** Access is closed to others before the first byte is written. */
async function makeEmptyFile(path: string): Promise<void> {
  await (await open(path, 'wx', 0o600)).close();
}
