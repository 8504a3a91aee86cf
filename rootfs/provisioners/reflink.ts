import { chmod, constants, copyFile } from 'node:fs/promises';
import { KilnError } from '../../domain/failures.ts';
import { isErrno } from '../../linux/errno.ts';
import { mustRun } from '../../linux/run-command.ts';
import type { RootfsProvisioner } from '../../ports/disks.ts';
import { diskPath, makeDisk, removeDisks } from './disk-files.ts';
import { probeByDoing } from './probe.ts';

/**
 * A copy of the base that shares all of its blocks until one side writes them, where the file system can do that (XFS,
 * btrfs, bcachefs): as quick for a large base as for a small one, and for every VMM. It has the format of the base.
 */
export function createReflinkProvisioner(): RootfsProvisioner {
  const provisioner: RootfsProvisioner = {
    kind: 'reflink',
    probe: (directory) =>
      probeByDoing(provisioner, directory, async (disk, basePath) => {
        await mustRun(['cmp', basePath, disk.path]);
      }),
    async provision({ base, directory, vmId }) {
      const path = diskPath(directory, vmId, base.path, base.format);
      await makeDisk(path, base.path, async (temporary) => {
        await cloneFile(base.path, temporary);
        await chmod(temporary, 0o600);
      });
      return { path, format: base.format, ...(base.backing !== undefined && { backing: base.backing }) };
    },
    release: removeDisks,
  };
  return provisioner;
}

/** Kernel errors where blocks cannot be shared: no such operation, another file system. */
const CANNOT_SHARE = ['ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'ENOTTY', 'EINVAL', 'EXDEV'];

/** Never copies a byte. @throws UNSUPPORTED */
async function cloneFile(from: string, to: string): Promise<void> {
  try {
    await copyFile(from, to, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
  } catch (error) {
    if (!isErrno(error, ...CANNOT_SHARE)) throw error;
    const message = 'the file system does not share blocks between files, or base and disk lie on two of them';
    throw new KilnError('UNSUPPORTED', message, { from, to }, error);
  }
}
