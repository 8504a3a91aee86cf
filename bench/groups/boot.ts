import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { RootfsProvisioner, VmDriver } from '../../activities/ports.ts';
import { readSetupRecord } from '../../config/setup-record.ts';
import type { CachedImage, DriveSpec, VmSpec } from '../../domain/vm.ts';
import { cachedImage, readManifest } from '../../rootfs/image/local-images.ts';
import { createQcow2OverlayProvisioner } from '../../rootfs/provisioners/qcow2-overlay.ts';
import { createQemuDriver } from '../../vmm/qemu/qemu-driver.ts';
import { createTscRate } from '../../vmm/qemu/tsc-rate.ts';
import type { Measurement } from '../figure.ts';
import type { GroupOptions } from '../groups.ts';
import { argumentsOf, bootByHand, helloWithin } from '../qemu-by-hand.ts';

const BOOT_DEADLINE_MS = 60_000;
const RESOURCES = { vcpus: 1, memMib: 512 };

/**
 * From the order to boot to the first answer of the guest's agent. Kiln: instance record, process, hello, identity,
 * through the driver. The rival: the very same arguments at a prompt, and the hello. Disks are made before, for both.
 */
export async function measureBoot(options: GroupOptions): Promise<readonly Measurement[]> {
  const { n, say, directory, signal } = options;
  const bed = await prepareBed(directory);
  try {
    // The first boot reads the image from disk and finds out about KVM; neither is what is measured.
    let { argv } = await bootByDriver(bed, 'warm-up', signal);
    const kiln: number[] = [];
    const samples: number[] = [];
    for (let sample = 0; sample < n; sample += 1) {
      const booted = await bootByDriver(bed, `kiln-${sample}`, signal);
      argv = booted.argv;
      kiln.push(booted.tookMs);
      const drives = await disks(bed, `hand-${sample}`);
      const hello = helloWithin(BOOT_DEADLINE_MS, signal);
      samples.push(await bootByHand({ argv, directory: join(directory, 'hand'), drives, hello }));
      say(`boot: ${sample + 1} of ${n}`);
    }
    const words = 'QEMU started by hand with the same arguments, to the hello of the agent';
    return [{ name: 'boot', unit: 'ms', kiln, rival: { words, samples } }];
  } finally {
    for (const vmId of await bed.driver.list()) await bed.driver.destroy(vmId);
  }
}

interface Bed {
  readonly driver: VmDriver;
  readonly provisioner: RootfsProvisioner;
  readonly image: CachedImage;
  readonly disksDir: string;
}

async function prepareBed(directory: string): Promise<Bed> {
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
      log: { info: () => undefined, warn: () => undefined },
      tscKhz: createTscRate({ deadlineMs: 10_000, ...(tscProbePath === undefined ? {} : { probePath: tscProbePath }) }),
    }),
  };
}

/** Root and workspace of one VM, fresh. */
async function disks({ provisioner, image, disksDir }: Bed, vmId: string): Promise<DriveSpec[]> {
  const root = await provisioner.provision({
    base: { path: image.rootfsPath, format: 'raw' },
    directory: disksDir,
    vmId,
  });
  const workspace = await provisioner.provision({
    base: { path: image.workspacePath, format: 'raw' },
    directory: disksDir,
    vmId: `${vmId}-work`,
  });
  return [
    { serial: 'kiln-root', ...root, readOnly: false },
    { serial: 'kiln-workspace', ...workspace, readOnly: false },
  ];
}

async function bootByDriver(bed: Bed, vmId: string, signal: AbortSignal): Promise<{ tookMs: number; argv: string[] }> {
  const spec = specOf(bed.image, vmId, await disks(bed, vmId));
  const identity = {
    hostname: vmId,
    seedHex: randomBytes(32).toString('hex'),
    machineId: randomBytes(16).toString('hex'),
    wallClockMs: Date.now(),
  };
  const begun = performance.now();
  await bed.driver.prepare(spec);
  const { pid } = await bed.driver.start(vmId, { identity, deadlineMs: BOOT_DEADLINE_MS, signal });
  const tookMs = performance.now() - begun;
  const argv = await argumentsOf(pid);
  await bed.driver.destroy(vmId);
  return { tookMs, argv };
}

function specOf(image: CachedImage, vmId: string, drives: readonly DriveSpec[]): VmSpec {
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
