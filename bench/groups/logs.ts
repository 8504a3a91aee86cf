import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { PROCESSES_FILE, readRecorded } from '../../cli/dev/left-processes.ts';
import { createKilnClient, type KilnClient } from '../../client/http/index.ts';
import { defined } from '../../domain/defined.ts';
import { parseKib } from '../../vmm/limits/process-usage.ts';
import { type BenchStack, startBenchStack } from '../dev-stack.ts';
import type { Measurement } from '../figure.ts';
import type { GroupOptions } from '../group-options.ts';

const LINE_BYTES = 100;
const SAMPLE_MS = 1_000;
/** Memory that a process takes while it warms up is not counted as growth. */
const WARM_UP_MS = 10_000;
const PAGE = 1_000;
const MIB = 2 ** 20;
const ID = 'flood';

const progressSchema = z.object({ lines: z.number(), flooding: z.boolean() });

/**
 * A service that writes its log as fast as it can for a minute, followed live all the while. What it writes is set against
 * the same program with its output thrown away; the memory of gateway and host worker in the last third of the flood
 * against its first third.
 */
export async function measureLogs(options: GroupOptions): Promise<readonly Measurement[]> {
  const { directory, signal, say, n } = options;
  const floodMs = n * 1_000;
  const stack = await startBenchStack(directory, signal);
  try {
    await makeSilentService(join(directory, 'project'));
    const silent = await rate(await deploy(stack, 'silent', 'log-silent'), floodMs / 4, signal);
    await stack.stop('silent');
    const url = await deploy(stack, ID, 'log-flood');
    const client = createKilnClient(stack.info);
    const done = new AbortController();
    const following = follow(client, AbortSignal.any([done.signal, signal]));
    const memory = sampleMemory(join(directory, 'home', PROCESSES_FILE), floodMs, signal);
    say(`logs: a flood of ${n} s`);
    const written = await rate(url, floodMs, signal);
    const rss = await memory;
    done.abort();
    await following;
    say(`logs: ${await kept(client)}`);
    await stack.stop(ID);
    const third = (samples: readonly number[], which: 0 | 2) => {
      const size = Math.floor(samples.length / 3);
      return samples.slice(which * size, (which + 1) * size);
    };
    const grown = (name: 'gateway' | 'host') => ({
      name: `rss-${name}-last-third`,
      unit: 'MiB' as const,
      kiln: third(rss[name], 2),
      rival: { words: 'the same process in the first third of the flood', samples: third(rss[name], 0) },
    });
    return [
      {
        name: 'lines-written',
        unit: 'lines/s',
        kiln: written,
        rival: { words: 'the same program with its output thrown away', samples: silent },
      },
      grown('gateway'),
      grown('host'),
    ];
  } finally {
    await stack.close();
  }
}

/** The same program, whose output goes nowhere. */
async function makeSilentService(project: string): Promise<void> {
  const silent = join(project, 'log-silent');
  await cp(join(project, 'log-flood'), silent, { recursive: true });
  await writeFile(join(silent, 'kiln.json'), JSON.stringify({ hooks: { start: 'node server.js > /dev/null' } }));
}

async function deploy(stack: BenchStack, id: string, servicePath: string): Promise<string> {
  await stack.create({ id, servicePath });
  const { url } = await stack.until(id, 'running');
  if (url === undefined) throw new Error(`${id} runs without a url`);
  return url;
}

/** Has the service flood for so long. @returns lines it has written in each second */
async function rate(url: string, floodMs: number, signal: AbortSignal): Promise<number[]> {
  await fetch(`${url}/flood?ms=${floodMs}&bytes=${LINE_BYTES}`, { method: 'POST', signal });
  const rates: number[] = [];
  let before = { lines: 0, at: performance.now() };
  for (;;) {
    await delay(SAMPLE_MS, undefined, { signal });
    const { lines, flooding } = progressSchema.parse(await (await fetch(url, { signal })).json());
    if (!flooding) return rates;
    const now = { lines, at: performance.now() };
    rates.push((now.lines - before.lines) / ((now.at - before.at) / 1_000));
    before = now;
  }
}

/** Reads the live log and throws it away. */
async function follow(client: KilnClient, signal: AbortSignal): Promise<void> {
  try {
    for await (const _ of client.streamWorkloadLogs(ID, { signal }));
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

async function sampleMemory(
  recordPath: string,
  forMs: number,
  signal: AbortSignal,
): Promise<Record<'gateway' | 'host', number[]>> {
  const processes = await readRecorded(recordPath);
  const samples = { gateway: [] as number[], host: [] as number[] };
  await delay(Math.min(WARM_UP_MS, forMs / 4), undefined, { signal });
  for (const until = performance.now() + forMs * 0.7; performance.now() < until; ) {
    for (const name of ['gateway', 'host'] as const) samples[name].push(await rssMib(processes[name]?.pid ?? 0));
    await delay(SAMPLE_MS, undefined, { signal });
  }
  return samples;
}

async function rssMib(pid: number): Promise<number> {
  return (parseKib(await readFile(`/proc/${pid}/status`, 'utf8'), 'VmRSS') ?? Number.NaN) / MIB;
}

/** @returns the result of the flood in words: stored lines and marked gaps */
async function kept(client: KilnClient): Promise<string> {
  let lines = 0;
  let gaps = 0;
  let lost = 0;
  let after: string | undefined;
  for (let more = true; more; ) {
    const query = { limit: PAGE, ...defined({ after }) };
    const page = await client.workloadLogs({ params: { id: ID }, query });
    for (const { message } of page.entries) {
      const gap = /(\d{1,15}) bytes (?:of output )?lost: /.exec(message)?.[1];
      if (gap === undefined) lines += 1;
      else {
        gaps += 1;
        lost += Number(gap);
      }
    }
    ({ more, cursor: after } = page);
  }
  return `${lines} lines kept, ${gaps} gaps marked, which hold ${Math.round(lost / LINE_BYTES)} lines`;
}
