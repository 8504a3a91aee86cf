import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Measurement } from '../figure.ts';
import type { GroupOptions } from '../group-options.ts';
import { argumentsOf, bootByHand, helloWithin } from '../qemu-by-hand.ts';
import { type Bed, disks, prepareBed, specOf } from '../vm-bed.ts';

const BOOT_DEADLINE_MS = 60_000;

/**
 * From the order to boot to the first answer of the guest's agent. Kiln: instance record, process, hello, identity,
 * through the driver. The rival: the very same arguments at a prompt, and the hello. Disks are made before, for both.
 */
export async function measureBoot(options: GroupOptions): Promise<readonly Measurement[]> {
  const { n, say, directory, signal } = options;
  const bed = await prepareBed(directory);
  try {
    // The first boot reads the image from disk and tests KVM; neither is part of the measurement.
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
