/** Disks and record of a VM that is to be started. */
import type { ImageCache, VmDriver } from '../activities/ports.ts';
import type { TemplateKey } from '../contracts/template-manifest.ts';
import { sameOwner, type VmOwner, type VmStart } from '../domain/vm.ts';
import type { Resources } from '../domain/workload.ts';
import type { InstanceStore } from '../vmm/instance-record.ts';
import type { Templates } from './templates/template-store.ts';
import { type DrivePorts, makeDrives } from './vm-drives.ts';

export interface ProvisioningPorts extends DrivePorts {
  readonly driver: Pick<VmDriver, 'prepare'>;
  readonly images: ImageCache;
  readonly records: Pick<InstanceStore, 'directory' | 'read'>;
  /** Frozen guests to go on from; absent: every VM boots cold. */
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
  /** How long the root disk took, ms, without fetching the image; 0 where it was there already. */
  readonly provisionMs: number;
  readonly start: VmStart;
}

/**
 * Decides how the VM will start, and makes what is not there yet: a retry finds the same decision, disks and record.
 * @throws DISK_FULL, IMAGE_MISSING, IMAGE_CORRUPT, CONFLICT where the id belongs to another owner
 */
export async function provisionVm(ports: ProvisioningPorts, request: ProvisionRequest): Promise<Provisioned> {
  const { vmId, owner, imageDigest, resources, signal } = request;
  const { kind } = ports.provisioner;
  const found = await ports.records.read(vmId);
  if (found !== undefined && sameOwner(found.owner, owner)) {
    return { provisioner: kind, provisionMs: 0, start: found.template === undefined ? 'cold' : 'template' };
  }
  const image = await ports.images.ensure(imageDigest, signal);
  signal?.throwIfAborted();
  const key = templateKey(request, kind);
  const template = request.cold === true ? undefined : await ports.templates?.find(key, image);
  const begun = performance.now();
  const rootBase = template?.root ?? { path: image.rootfsPath, format: 'raw' };
  const { drives } = await makeDrives(ports, {
    image,
    directory: ports.records.directory(vmId),
    vmId,
    resources,
    rootBase,
  });
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

/** @returns which template a VM may go on from */
export function templateKey(
  request: Pick<ProvisionRequest, 'imageDigest' | 'resources'> & { owner: Pick<VmOwner, 'projectId'> },
  provisioner: string,
): TemplateKey {
  const { imageDigest, resources, owner } = request;
  return {
    imageDigest,
    resources: { vcpus: resources.vcpus, memMib: resources.memMib },
    ...(owner.projectId === undefined ? {} : { projectId: owner.projectId }),
    provisioner,
  };
}
