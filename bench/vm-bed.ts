/** VMs directly from the driver, without Temporal: for measurements of the VM layer alone. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readSetupRecord } from '../config/setup-record.ts';
import { defined } from '../domain/defined.ts';
import type { BaseDisk, CachedImage, DriveSpec, VmSpec } from '../domain/vm.ts';
import type { RootfsProvisioner } from '../ports/disks.ts';
import type { VmDriver } from '../ports/vm-driver.ts';
import { cachedImage, readManifest } from '../rootfs/image/local-images.ts';
import { createQcow2OverlayProvisioner } from '../rootfs/provisioners/qcow2-overlay.ts';
import type { VmLimits } from '../vmm/limits/vm-limits.ts';
import { createQemuDriver } from '../vmm/qemu/qemu-driver.ts';
import { createTscRate } from '../vmm/qemu/tsc-rate.ts';

const RESOURCES = { vcpus: 1, memMib: 512 };

/** A driver of its own with all it needs to make VMs of the image that set-up built. */
export interface Bed {
  readonly driver: VmDriver;
  readonly provisioner: RootfsProvisioner;
  readonly image: CachedImage;
  readonly disksDir: string;
}

/** @param limits control groups of the VMs; absent: none */
export async function prepareBed(directory: string, limits?: VmLimits): Promise<Bed> {
  const { image, cacheDir, tscProbePath } = readSetupRecord();
  const imagesDir = join(cacheDir, 'images');
  const manifest = await readManifest(imagesDir, image.digest);
  if (manifest === undefined) throw new Error('the guest image is gone: run `npm run setup`');
  const disksDir = join(directory, 'disks');
  await mkdir(disksDir);
  return {
    disksDir,
    provisioner: createQcow2OverlayProvisioner(),
    image: cachedImage(imagesDir, image.digest, manifest),
    driver: createQemuDriver({
      stateDir: join(directory, 'state'),
      runtimeDir: join(directory, 'run'),
      ...defined({ limits }),
      log: { info: () => undefined, warn: () => undefined },
      tscKhz: createTscRate({ deadlineMs: 10_000, ...defined({ probePath: tscProbePath }) }),
    }),
  };
}

/** New root and workspace of one VM. @param over base of the root disk; absent: the image */
export async function disks(
  { provisioner, image, disksDir }: Bed,
  vmId: string,
  {
    base = { path: image.rootfsPath, format: 'raw' },
    directory = disksDir,
  }: { base?: BaseDisk; directory?: string } = {},
): Promise<DriveSpec[]> {
  const empty: BaseDisk = { path: image.workspacePath, format: 'raw' };
  const root = await provisioner.provision({ base, directory, vmId });
  const workspace = await provisioner.provision({ base: empty, directory, vmId: `${vmId}-work` });
  return [
    { serial: 'kiln-root', ...root, readOnly: false },
    { serial: 'kiln-workspace', ...workspace, readOnly: false },
  ];
}

/** @returns a VM of one vCPU and 512 MiB. */
export function specOf(image: CachedImage, vmId: string, drives: readonly DriveSpec[]): VmSpec {
  return {
    vmId,
    owner: {
      workflowId: `bench/${vmId}`,
      firstExecutionId: 'bench',
      namespaceId: 'bench',
      epoch: 1,
      boot: 1,
      role: 'service',
    },
    ...RESOURCES,
    kernelPath: image.kernelPath,
    initrdPath: image.initrdPath,
    imageDigest: image.digest,
    drives,
  };
}
