import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type BenchStack, startBenchStack } from '../dev-stack.ts';
import type { Measurement } from '../figure.ts';
import type { GroupOptions } from '../group-options.ts';
import { argumentsOf } from '../qemu-by-hand.ts';
import { prepareRival } from './poll-copy-boot.ts';

const SERVICE = 'hello-service';
const LOOK_AGAIN_MS = 100;

/**
 * The whole workflow from its request to a guest that is ready for the service, the build found in the cache: placed,
 * validated, disks, VM. Against the same with every guest booted cold, and against what many platforms do: a daemon finds
 * the job at its next poll, copies a 3 GB image, boots it.
 */
export async function measureReady(options: GroupOptions): Promise<readonly Measurement[]> {
  const templates = await samplesOf(options, 'templates', {});
  const cold = await samplesOf(options, 'cold', { KILN_TEMPLATES: 'off' });
  options.say('ready: a poller, a full copy and a cold boot');
  const rival = await prepareRival(options, cold.argv);
  const samples: number[] = [];
  try {
    for (let sample = 0; sample < Math.min(options.n, 5); sample += 1) samples.push(await rival.once());
  } finally {
    rival.close();
  }
  const words = 'a 5 s poller, a full copy of a 3 GB image and a cold boot to the hello of the agent';
  return [
    {
      name: 'submit-to-guest-ready',
      unit: 'ms',
      kiln: templates.ms,
      rival: { words: 'the same workflow, guests booted cold', samples: cold.ms },
    },
    { name: 'submit-to-guest-ready-poll', unit: 'ms', kiln: templates.ms, rival: { words, samples } },
  ];
}

async function samplesOf(
  { n, say, directory, signal }: GroupOptions,
  name: string,
  env: Readonly<Record<string, string>>,
): Promise<{ ms: number[]; argv: string[] }> {
  const place = join(directory, name);
  await mkdir(place);
  const stack = await startBenchStack(place, signal, env);
  try {
    say(`ready, ${name}: one build to warm the cache`);
    const { argv } = await deploy(stack, 'warm-up');
    await stack.stop('warm-up');
    if (name === 'templates') await untilCloned(stack, signal);
    const ms: number[] = [];
    for (let sample = 0; sample < n; sample += 1) {
      ms.push((await deploy(stack, `ready-${sample}`)).readyMs);
      await stack.stop(`ready-${sample}`);
      say(`ready, ${name}: ${sample + 1} of ${n}`);
    }
    return { ms, argv };
  } finally {
    await stack.close();
  }
}

/** A template is made in the background once a guest has booted. */
async function untilCloned(stack: BenchStack, signal: AbortSignal): Promise<void> {
  for (let round = 0; ; round += 1) {
    const id = `try-${round}`;
    const { started } = await deploy(stack, id);
    await stack.stop(id);
    if (started === 'template') return;
    await delay(LOOK_AGAIN_MS, undefined, { signal });
  }
}

async function deploy(
  stack: BenchStack,
  id: string,
): Promise<{ readyMs: number; argv: string[]; started: 'template' | 'cold' }> {
  await stack.create({ id, servicePath: SERVICE });
  const { vmReadyMs, pid } = await stack.until(id, 'running');
  if (vmReadyMs === undefined || pid === undefined) throw new Error(`${id} runs without saying since when`);
  const argv = await argumentsOf(pid);
  return { readyMs: vmReadyMs, argv, started: argv.includes('-incoming') ? 'template' : 'cold' };
}
