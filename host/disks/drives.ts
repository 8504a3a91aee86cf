/** Disks of one VM. */

import { defined } from '../../domain/defined.ts';
import type { BaseDisk, CachedImage, DiskRef, DriveSpec } from '../../domain/vm.ts';
import type { Resources } from '../../domain/workload/workload.ts';
import type { ProvisionedDisk, RootfsProvisioner } from '../../ports/disks.ts';
import type { EmptyDisks } from '../../rootfs/provisioners/empty-disks.ts';

/** Serials by which the guest finds its drives. */
export const ROOT_SERIAL = 'kiln-root';
export const WORKSPACE_SERIAL = 'kiln-workspace';
export const SCRATCH_SERIAL = 'kiln-scratch';

/** What makes the disks of a VM. */
export interface DrivePorts {
  /** Makes the root disk. */
  readonly provisioner: RootfsProvisioner;
  /** Makes the workspace disk: a copy of an empty file system, so sparse that copying is the fastest way everywhere. */
  readonly workspaces: RootfsProvisioner;
  /** Source of a workspace disk whose size differs from that of the image's. */
  readonly emptyDisks: EmptyDisks;
}

export interface DriveRequest {
  readonly image: CachedImage;
  readonly directory: string;
  readonly vmId: string;
  readonly resources: Pick<Resources, 'diskMib'>;
  /** The image's root file system, or a template's root disk. */
  readonly rootBase: BaseDisk;
}

/** Root disk and an empty workspace. @returns the drives in the order in which every guest has them */
export async function makeDrives(ports: DrivePorts, request: DriveRequest): Promise<DriveSpec[]> {
  const { image, directory, vmId, rootBase } = request;
  const { diskMib } = request.resources;
  const size = defined({ scratchMib: diskMib });
  const root = await ports.provisioner.provision({ base: rootBase, directory, vmId, ...size });
  const base = await workspaceBase(ports.emptyDisks, image, diskMib);
  return drivesOf(root, await ports.workspaces.provision({ base, directory, vmId }));
}

/**
 * Removes what `makeDrives` has made.
 * @param of `drives`: those of the VM's record; none where it has no record
 */
export async function releaseDrives(
  ports: Pick<DrivePorts, 'provisioner' | 'workspaces'>,
  of: { readonly directory: string; readonly vmId: string; readonly drives: readonly DriveSpec[] },
): Promise<void> {
  const { directory, vmId } = of;
  const disks = (isWorkspace: boolean): DiskRef[] =>
    of.drives
      .filter(({ serial }) => (serial === WORKSPACE_SERIAL) === isWorkspace)
      .map(({ path, format }) => ({ path, format }));
  await ports.provisioner.release({ directory, vmId, disks: disks(false) });
  await ports.workspaces.release({ directory, vmId, disks: disks(true) });
}

/** The drives that a guest finds by their serials. */
export function drivesOf(root: ProvisionedDisk, workspace: ProvisionedDisk): DriveSpec[] {
  const { scratch, readOnly = false, ...disk } = root;
  const drives: DriveSpec[] = [
    { serial: ROOT_SERIAL, ...disk, readOnly },
    { serial: WORKSPACE_SERIAL, ...workspace, readOnly: false },
  ];
  return scratch === undefined ? drives : [...drives, { serial: SCRATCH_SERIAL, ...scratch, readOnly: false }];
}

/** Only the size of a drive limits what a guest, which is root inside, can write to it. */
async function workspaceBase(emptyDisks: EmptyDisks, image: CachedImage, mib: number | undefined): Promise<BaseDisk> {
  return mib === undefined ? { path: image.workspacePath, format: 'raw' } : await emptyDisks.ensure('workspace', mib);
}
