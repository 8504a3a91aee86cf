/** Disks of one VM. */
import type { RootfsProvisioner } from '../activities/ports.ts';
import type { BaseDisk, CachedImage, DriveSpec } from '../domain/vm.ts';
import type { Resources } from '../domain/workload.ts';

/** Serials by which the guest finds its drives. */
export const ROOT_SERIAL = 'kiln-root';
export const WORKSPACE_SERIAL = 'kiln-workspace';

/** What makes the disks of a VM. */
export interface DrivePorts {
  /** Makes the root disk. */
  readonly provisioner: RootfsProvisioner;
  /** Makes the workspace disk: a copy of an empty file system, so sparse that copying is the fastest way everywhere. */
  readonly workspaces: RootfsProvisioner;
}

/** Root disk over `rootBase` and an empty workspace, in the order in which every guest has them. */
export async function makeDrives(
  ports: DrivePorts,
  request: { image: CachedImage; directory: string; vmId: string; resources: Resources; rootBase: BaseDisk },
): Promise<{ drives: DriveSpec[]; root: DriveSpec }> {
  const { image, directory, vmId, rootBase } = request;
  const made = await ports.provisioner.provision({ base: rootBase, directory, vmId });
  const root: DriveSpec = { serial: ROOT_SERIAL, ...made, readOnly: false };
  const empty: BaseDisk = { path: image.workspacePath, format: 'raw' };
  const workspace = await ports.workspaces.provision({ base: empty, directory, vmId });
  return { root, drives: [root, { serial: WORKSPACE_SERIAL, ...workspace, readOnly: false }] };
}
