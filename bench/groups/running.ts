import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { readSetupRecord } from '../../config/setup-record.ts';
import { type BenchStack, preciseNow, startBenchStack } from '../dev-stack.ts';
import type { Measurement } from '../figure.ts';
import { fullCopy, makeFullImage, sparseCopy } from '../full-copy.ts';
import type { GroupOptions } from '../groups.ts';
import { startPoller } from '../poller.ts';
import { argumentsOf, bootByHand, helloWithin } from '../qemu-by-hand.ts';

const SERVICE = 'hello-service';
const IMAGE_BYTES = 3 * 1024 ** 3;
const POLL_INTERVAL_MS = 5_000;
const BOOT_DEADLINE_MS = 60_000;

/**
 * From `POST /api/workloads` to the stage `running`: validated, built (found in the cache), placed, disks, VM, service
 * started and healthy. The rival is what many platforms do, and stops at the boot: a daemon finds the job at its next
 * poll, copies a 3 GB image, boots it; no service is started there.
 */
export async function measureRunning(options: GroupOptions): Promise<readonly Measurement[]> {
  const { n, say, directory, signal } = options;
  const stack = await startBenchStack(directory, signal);
  try {
    say('running: one build to warm the cache');
    const first = await deploy(stack, 'bench-warm-up');
    const rival = await prepareRival(options, first.argv);
    await stack.stop('bench-warm-up');
    const kiln: number[] = [];
    const samples: number[] = [];
    for (let sample = 0; sample < n; sample += 1) {
      const id = `bench-${sample}`;
      kiln.push((await deploy(stack, id)).tookMs);
      await stack.stop(id);
      samples.push(await rival.once());
      say(`running: ${sample + 1} of ${n}`);
    }
    rival.close();
    const words = 'a 5 s poller, a full copy of a 3 GB image and a cold boot to the hello of the agent, no service';
    return [{ name: 'running', unit: 'ms', kiln, rival: { words, samples } }];
  } finally {
    await stack.close();
  }
}

/** Deploys the example. @returns the time until it was running, by the workflow's own record, and how its VM was started */
async function deploy(stack: BenchStack, id: string): Promise<{ tookMs: number; argv: string[] }> {
  const submittedAt = preciseNow();
  await stack.create({ id, servicePath: SERVICE });
  const view = await stack.until(id, 'running');
  const entered = view.transitions.find(({ to }) => to === 'running');
  if (entered === undefined || view.pid === undefined) throw new Error(`${id} is running without saying since when`);
  return { tookMs: Date.parse(entered.at) - submittedAt, argv: await argumentsOf(view.pid) };
}

interface Rival {
  /** One VM, from its submission to the hello of its agent. @returns ms */
  once(): Promise<number>;
  close(): void;
}

async function prepareRival({ say, directory, signal }: GroupOptions, argv: readonly string[]): Promise<Rival> {
  say('running: making a 3 GB image for the rival');
  const image = readSetupRecord().image.directory;
  const base = join(directory, 'base.ext4');
  await makeFullImage(join(image, 'rootfs.ext4'), base, IMAGE_BYTES);
  const root = { path: join(directory, 'copy.ext4'), format: 'raw' } as const;
  const workspace = { path: join(directory, 'workspace.ext4'), format: 'raw' } as const;
  const poller = startPoller(join(directory, 'jobs.db'), POLL_INTERVAL_MS);
  return {
    close: () => poller.close(),
    once: async () => {
      await sparseCopy(join(image, 'workspace.ext4'), workspace.path);
      await rm(root.path, { force: true });
      // Submissions come at any moment of the poller's interval.
      await delay(Math.random() * POLL_INTERVAL_MS, undefined, { signal });
      const waitedMs = await poller.submit();
      const begun = performance.now();
      await fullCopy(base, root.path);
      const copiedMs = performance.now() - begun;
      const hand = { argv, directory: join(directory, 'hand'), drives: [root, workspace] };
      return waitedMs + copiedMs + (await bootByHand({ ...hand, hello: helloWithin(BOOT_DEADLINE_MS, signal) }));
    },
  };
}
