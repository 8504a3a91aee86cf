/** Disks and record of a VM that is to be booted. */
import { statfs } from 'node:fs/promises';
import type { ImageCache, ProvisionedDisk, RootfsProvisioner, VmDriver } from '../activities/ports.ts';
import { KilnError } from '../domain/failures.ts';
import type { BaseDisk, CachedImage, DriveSpec, VmOwner } from '../domain/vm.ts';
import type { Resources } from '../domain/workload.ts';
import type { EmptyDisks } from '../rootfs/provisioners/empty-disks.ts';

/** Serials by which the guest finds its drives. */
export const ROOT_SERIAL = 'kiln-root';
export const WORKSPACE_SERIAL = 'kiln-workspace';
export const SCRATCH_SERIAL = 'kiln-scratch';

export interface ProvisioningPorts {
  readonly driver: Pick<VmDriver, 'prepare'>;
  /** Makes the root disk. */
  readonly provisioner: RootfsProvisioner;
  /** Makes the workspace disk: a copy of an empty file system, so sparse that copying is the fastest way everywhere. */
  readonly workspaces: RootfsProvisioner;
  /** What a workspace disk of another size than the image's is a copy of. */
  readonly emptyDisks: EmptyDisks;
  /** Space that VMs leave free where their disks lie, bytes: with less there is no new VM, so that others can write on. */
  readonly freeBytes: number;
  /** A folder on the file system of the disks. */
  readonly stateDir: string;
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
 * @throws DISK_FULL also where there is less space left than a host keeps free; IMAGE_MISSING, IMAGE_CORRUPT, CONFLICT where the id belongs to another owner
 */
export async function provisionVm(
  ports: ProvisioningPorts,
  request: ProvisionRequest,
): Promise<{ provisioner: string; provisionMs: number }> {
  const { vmId, owner, imageDigest, resources, signal } = request;
  const image = await ports.images.ensure(imageDigest, signal);
  signal?.throwIfAborted();
  await requireSpace(ports.stateDir, ports.freeBytes);
  const directory = ports.vmDirectory(vmId);
  const begun = performance.now();
  const size = resources.diskMib === undefined ? {} : { scratchMib: resources.diskMib };
  const root = await ports.provisioner.provision({ base: raw(image.rootfsPath), directory, vmId, ...size });
  const provisionMs = performance.now() - begun;
  const base = await workspaceBase(ports.emptyDisks, image, resources.diskMib);
  const workspace = await ports.workspaces.provision({ base, directory, vmId });
  signal?.throwIfAborted();
  await ports.driver.prepare({
    vmId,
    owner,
    vcpus: resources.vcpus,
    memMib: resources.memMib,
    kernelPath: image.kernelPath,
    initrdPath: image.initrdPath,
    imageDigest: image.digest,
    drives: drivesOf(root, workspace),
  });
  return { provisioner: ports.provisioner.kind, provisionMs };
}

function raw(path: string): BaseDisk {
  return { path, format: 'raw' };
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

/** The size of a drive is all that bounds what a guest, root in itself, can write to it. */
async function workspaceBase(emptyDisks: EmptyDisks, image: CachedImage, mib: number | undefined): Promise<BaseDisk> {
  return mib === undefined ? raw(image.workspacePath) : await emptyDisks.ensure('workspace', mib);
}

async function requireSpace(directory: string, wantedBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  const freeBytes = bavail * bsize;
  if (freeBytes >= wantedBytes) return;
  const [free, wanted] = [freeBytes, wantedBytes].map((bytes) => Math.floor(bytes / 2 ** 20));
  throw new KilnError(
    'DISK_FULL',
    `only ${free} MiB are free in ${directory}, and no VM is made with less than ${wanted}: free some there`,
    { directory, freeBytes, wantedBytes },
  );
}
