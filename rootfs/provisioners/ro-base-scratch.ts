import { access } from 'node:fs/promises';
import { resolve } from 'node:path';
import { mustRun } from '../../linux/run-command.ts';
import type { RootfsProvisioner } from '../../ports/disks.ts';
import { diskPath, makeDisk, removeDisks } from './disk-files.ts';
import type { EmptyDisks } from './empty-disks.ts';
import { probeByDoing } from './probe.ts';
import { sparseCopier } from './sparse-copy.ts';

/** Default size of a guest's own layer. */
const DEFAULT_SCRATCH_MIB = 2048;

/**
 * The base itself, which every VM opens and none may write, and beside it a small empty disk of the VM's own. The guest
 * combines them with overlayfs. Works on every file system, for every VMM and with any content of the base.
 */
export function createRoBaseScratchProvisioner(emptyDisks: EmptyDisks): RootfsProvisioner {
  const copy = sparseCopier();
  const provisioner: RootfsProvisioner = {
    kind: 'ro-base+scratch',
    probe: (directory) =>
      probeByDoing(provisioner, directory, async ({ scratch }) => {
        await mustRun(['dumpe2fs', '-h', scratch?.path ?? '']);
      }),
    async provision({ base, directory, vmId, scratchMib = DEFAULT_SCRATCH_MIB }) {
      const root = { ...base, path: resolve(base.path), readOnly: true as const };
      const from = base.scratch ?? (await emptyDisks.ensure('scratch', scratchMib));
      const path = diskPath(directory, vmId, from.path, from.format);
      await makeDisk(path, root.path, async (temporary) => {
        await access(root.path);
        await copy(from, temporary);
      });
      return { ...root, scratch: { path, format: from.format } };
    },
    release: removeDisks,
  };
  return provisioner;
}
