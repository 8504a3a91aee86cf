import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createKilnClient, type KilnClient } from '../../../client/http/index.ts';
import { instanceRecordSchema } from '../../../contracts/host/instance-record.ts';
import { type BenchStack, startBenchStack } from '../../dev-stack.ts';
import type { Measurement } from '../../figure.ts';
import type { GroupOptions } from '../../group-options.ts';
import { echoOnce } from '../../session-calls.ts';

const LOOK_AGAIN_MS = 100;
const MOST_CLONES = 20;
const MOST_COLD = 10;

/** A first message to a thread: a clone of a template on the given stack, against cold boots on a stack without templates. */
export async function measureNewThreads(stack: BenchStack, options: GroupOptions): Promise<Measurement> {
  const { n, directory, signal, say } = options;
  await untilCloned(stack, options);
  const kiln = await samplesOf(stack, 'template', Math.min(n, MOST_CLONES), options);
  say(`session: ${kiln.length} new threads by clones`);
  const place = join(directory, 'cold');
  await mkdir(place);
  const cold = await startBenchStack(place, signal, { KILN_TEMPLATES: 'off' });
  try {
    const samples = await samplesOf(cold, 'cold', Math.min(n, MOST_COLD), { ...options, directory: place });
    const words = 'the same on a stack without templates: a cold boot';
    return { name: 'session-new-thread', unit: 'ms', kiln, rival: { words, samples } };
  } finally {
    await cold.close();
  }
}

/** A template is made in the background, once a guest of its kind has booted. */
async function untilCloned({ info }: BenchStack, { directory, signal }: GroupOptions): Promise<void> {
  const client = createKilnClient(info);
  for (let round = 0; ; round += 1) {
    const { start } = await begin(client, `tries-${round}`, directory, signal);
    if (start === 'template') return;
    await delay(LOOK_AGAIN_MS, undefined, { signal });
  }
}

/** @throws Error where one of them has started in another way */
async function samplesOf(
  { info }: BenchStack,
  wanted: 'template' | 'cold',
  count: number,
  { directory, signal }: GroupOptions,
): Promise<number[]> {
  const client = createKilnClient(info);
  const all: number[] = [];
  for (let sample = 0; sample < count; sample += 1) {
    const { ms, start } = await begin(client, `new-${sample}`, directory, signal);
    if (start !== wanted) throw new Error(`a new thread started ${start}, not ${wanted}`);
    all.push(ms);
  }
  return all;
}

/** @returns ms to the first byte, and how its VM was started */
async function begin(client: KilnClient, thread: string, directory: string, signal: AbortSignal) {
  const session = client.session(thread);
  const ms = await echoOnce(session, signal);
  const { vmId = '' } = await session.get();
  const record = await readFile(join(directory, 'home', 'host', 'vms', vmId, 'instance.json'), 'utf8');
  const { start } = instanceRecordSchema.parse(JSON.parse(record));
  await session.close();
  return { ms, start };
}
