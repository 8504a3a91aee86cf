/** Disks and record of a VM that is to be booted. */
import type { ImageCache, RootfsProvisioner, VmDriver } from '../activities/ports.ts';
import type { BaseDisk, DriveSpec, VmOwner } from '../domain/vm.ts';
import type { Resources } from '../domain/workload.ts';

/** Serials by which the guest finds its drives. */
export const ROOT_SERIAL = 'kiln-root';
export const WORKSPACE_SERIAL = 'kiln-workspace';

export interface ProvisioningPorts {
  readonly driver: Pick<VmDriver, 'prepare'>;
  /** Makes the root disk. */
  readonly provisioner: RootfsProvisioner;
  /** Makes the workspace disk: a copy of an empty file system, so sparse that copying is the fastest way everywhere. */
  readonly workspaces: RootfsProvisioner;
  readonly images: ImageCache;
  /** Where a VM's record and disks lie. */
  readonly vmDirectory: (vmId: string) => string;
}

export interface ProvisionRequest {
  readonly vmId: string;
  readonly owner: VmOwner;
  readonly imageDigest: string;
  readonly resources: Resources;
  readonly signal?: AbortSignal;
}

/**
 * Makes what is not there yet: a retry finds the same disks and record.
 * @returns how long the root disk took, ms, without fetching the image
 * @throws DISK_FULL, IMAGE_MISSING, IMAGE_CORRUPT, CONFLICT where the id belongs to another owner
 */
export async function provisionVm(
  ports: ProvisioningPorts,
  request: ProvisionRequest,
): Promise<{ provisioner: string; provisionMs: number }> {
  const { vmId, owner, imageDigest, resources, signal } = request;
  const image = await ports.images.ensure(imageDigest, signal);
  signal?.throwIfAborted();
  const directory = ports.vmDirectory(vmId);
  const begun = performance.now();
  const root = await ports.provisioner.provision({ base: raw(image.rootfsPath), directory, vmId });
  const provisionMs = performance.now() - begun;
  const workspace = await ports.workspaces.provision({ base: raw(image.workspacePath), directory, vmId });
  signal?.throwIfAborted();
  const drives: DriveSpec[] = [
    { serial: ROOT_SERIAL, ...root, readOnly: false },
    { serial: WORKSPACE_SERIAL, ...workspace, readOnly: false },
  ];
  await ports.driver.prepare({
    vmId,
    owner,
    vcpus: resources.vcpus,
    memMib: resources.memMib,
    kernelPath: image.kernelPath,
    initrdPath: image.initrdPath,
    imageDigest: image.digest,
    drives,
  });
  return { provisioner: ports.provisioner.kind, provisionMs };
}

function raw(path: string): BaseDisk {
  return { path, format: 'raw' };
}
