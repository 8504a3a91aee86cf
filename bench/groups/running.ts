import { type BenchStack, preciseNow, startBenchStack } from '../dev-stack.ts';
import type { Measurement } from '../figure.ts';
import type { GroupOptions } from '../group-options.ts';
import { argumentsOf } from '../qemu-by-hand.ts';
import { prepareRival } from './poll-copy-boot.ts';

const SERVICE = 'hello-service';

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
    try {
      for (let sample = 0; sample < n; sample += 1) {
        const id = `bench-${sample}`;
        kiln.push((await deploy(stack, id)).tookMs);
        await stack.stop(id);
        samples.push(await rival.once());
        say(`running: ${sample + 1} of ${n}`);
      }
    } finally {
      rival.close();
    }
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
