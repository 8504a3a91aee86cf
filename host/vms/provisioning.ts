/** Disks and record of a VM that is to be started. */

import { statfs } from 'node:fs/promises';
import { KilnError } from '../../domain/failures.ts';
import { guestKindOf } from '../../domain/guest-kind.ts';
import { sameOwner, type VmOwner, type VmStart } from '../../domain/vm.ts';
import type { Resources } from '../../domain/workload/workload.ts';
import type { ImageCache } from '../../ports/images.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import { type InstanceStore, recordedStart } from '../../vmm/instance-record.ts';
import { type DrivePorts, makeDrives } from '../disks/drives.ts';
import type { Templates } from '../templates/template-store.ts';

export interface ProvisioningPorts extends DrivePorts {
  readonly driver: Pick<VmDriver, 'prepare'>;
  /** Space that VMs leave free on their disk, bytes: with less, no new VM is made, so that others can still write. */
  readonly freeBytes: number;
  /** A folder on the file system of the disks. */
  readonly stateDir: string;
  readonly images: ImageCache;
  readonly records: Pick<InstanceStore, 'directory' | 'read'>;
  /** Frozen guests to clone; absent: every VM boots cold. */
  readonly templates?: Pick<Templates, 'find'>;
}

export interface ProvisionRequest {
  readonly vmId: string;
  readonly owner: VmOwner;
  readonly imageDigest: string;
  readonly resources: Resources;
  /** Boots cold even where there is a template. */
  readonly cold?: boolean;
  readonly signal?: AbortSignal;
}

/** How a VM was provisioned. */
export interface Provisioned {
  readonly provisioner: string;
  /** How long the disks took, ms, without fetching the image; 0 where they existed already. */
  readonly provisionMs: number;
  readonly start: VmStart;
}

/**
 * Decides how the VM will start, and makes what is missing: a retry finds the same decision, disks and record.
 * @throws DISK_FULL also where less space is left than a host keeps free; IMAGE_MISSING, IMAGE_CORRUPT, CONFLICT where
 * the id belongs to another owner
 */
export async function provisionVm(ports: ProvisioningPorts, request: ProvisionRequest): Promise<Provisioned> {
  const { vmId, owner, imageDigest, resources, signal } = request;
  const { kind } = ports.provisioner;
  const found = await ports.records.read(vmId);
  if (found !== undefined && sameOwner(found.owner, owner)) {
    const start = recordedStart(found);
    return { provisioner: start === 'pool' ? 'pool' : kind, provisionMs: 0, start };
  }
  const image = await ports.images.ensure(imageDigest, signal);
  signal?.throwIfAborted();
  await requireSpace(ports.stateDir, ports.freeBytes);
  const wanted = guestKindOf({ imageDigest, resources, projectId: owner.projectId });
  const template = request.cold === true ? undefined : await ports.templates?.find(wanted, image);
  const begun = performance.now();
  const rootBase = template?.root ?? { path: image.rootfsPath, format: 'raw' };
  const directory = ports.records.directory(vmId);
  const drives = await makeDrives(ports, { image, directory, vmId, resources, rootBase });
  const provisionMs = performance.now() - begun;
  signal?.throwIfAborted();
  await ports.driver.prepare({
    vmId,
    owner,
    vcpus: resources.vcpus,
    memMib: resources.memMib,
    kernelPath: image.kernelPath,
    initrdPath: image.initrdPath,
    imageDigest: image.digest,
    drives,
    ...(template === undefined ? {} : { template: template.ref }),
  });
  return { provisioner: kind, provisionMs, start: template === undefined ? 'cold' : 'template' };
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
