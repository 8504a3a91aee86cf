import { setTimeout as delay } from 'node:timers/promises';
import type { PoolSettingOverrides } from '../../domain/pool/pool-policy.ts';
import { DEFAULT_HOST_SETTINGS } from '../../host/host-settings.ts';
import { GuestHost } from '../../test/support/host/guest-host.ts';
import { type LoadRequest, recordedBursts } from '../../test/support/host/pool-simulation.ts';
import { freshBucket } from '../../test/support/servers/object-store.ts';
import { startServers, type TestS3 } from '../../test/support/servers/servers.global.ts';
import { type Measurement, median, percentile } from '../figure.ts';
import type { GroupOptions } from '../group-options.ts';

/** The recorded pauses are up to minutes long: those between two requests are cut to this, bursts stay as they were. */
const LONGEST_PAUSE_MS = 700;
/** And so a workload keeps its VM for a thirtieth of its time, at most this long. */
const HOLD_SHARE = 1 / 30;
const LONGEST_HOLD_MS = 2_000;
const MAINTAIN_EVERY_MS = 1_000;
/** The pool's own times, cut as the pauses are. */
const LIMITS = { pool_size: 3, max_pool_size: 10, min_idle: 2, max_idle_time: 10_000, max_uptime: 40_000 };
const BUSIEST = 'a';

/**
 * The recorded load of 500 requests in bursts, with real guests: each gets a pooled guest or a clone, which gets an id,
 * lives for a while and is destroyed. The rival has no pool and clones each guest on request.
 */
export async function measurePoolOfGuests({ n, say, signal }: GroupOptions): Promise<readonly Measurement[]> {
  const load = recordedBursts().slice(0, n);
  const servers = await startServers();
  try {
    const pooled = await play(load, LIMITS, servers.s3, say, signal);
    say(`pool-guests: ${pooled.told}`);
    const cloned = await play(load, { pool_size: 0 }, servers.s3, say, signal);
    say(`pool-guests: without a pool: ${cloned.told}`);
    return [measurement(pooled, cloned)];
  } finally {
    await servers.stop();
  }
}

function measurement(pooled: Played, cloned: Played): Measurement {
  const words = 'the same load without a pool, each guest cloned when it is asked for';
  return { name: 'pool-of-guests', unit: 'ms', kiln: pooled.readyMs, rival: { words, samples: cloned.readyMs } };
}

interface Played {
  /** From each request to a guest that knows who it is. */
  readonly readyMs: number[];
  readonly told: string;
}

async function play(
  load: readonly LoadRequest[],
  limits: PoolSettingOverrides,
  s3: TestS3,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<Played> {
  const warm = [{ image: 'node', vcpus: 1, memMib: 256, projectId: projectOf(BUSIEST) }];
  const settings = { pool: { ...DEFAULT_HOST_SETTINGS.pool, limits, warm } };
  const bed = await GuestHost.start(settings, await freshBucket(s3));
  const maintaining = new AbortController();
  const running: Promise<void>[] = [];
  let left: readonly string[];
  let played: Played;
  try {
    await makeTemplates(bed, load);
    say('pool-guests: templates are made');
    const rounds = maintain(bed, AbortSignal.any([maintaining.signal, signal]));
    const starts = new Map<string, number[]>();
    const readyMs: number[] = [];
    for (const [index, request] of load.entries()) {
      await delay(Math.min(LONGEST_PAUSE_MS, request.atMs - (load[index - 1]?.atMs ?? 0)), undefined, { signal });
      const served = serve(bed, `r${index}-1-1`, request, starts, readyMs);
      // A failure is reported below, and ends nothing before.
      served.catch(() => undefined);
      running.push(served);
    }
    await Promise.all(running);
    maintaining.abort();
    await rounds;
    const { hits, waits, misses, created, recycled } = bed.host.pool.status().counters;
    const how = [...starts].map(([start, ms]) => `${start} ${toldOf(ms)}`).join(', ');
    const told = `${load.length} requests: ${how}; hits ${hits}, waits ${waits}, misses ${misses}, made ${created}, recycled ${JSON.stringify(recycled)}`;
    played = { readyMs, told };
  } finally {
    maintaining.abort();
    // A guest that comes up after the others were taken away would stay.
    await Promise.allSettled(running);
    left = await bed.close();
  }
  if (left.length > 0) throw new Error(`left: ${left.join('; ')}`);
  return played;
}

const toldOf = (ms: readonly number[]) =>
  `${ms.length} (median ${Math.round(median(ms))} ms, p95 ${Math.round(percentile(ms, 0.95))})`;

const projectOf = (kind: string) => `project-${kind}`;

/** As on a host that has run for a while. */
async function makeTemplates(bed: GuestHost, load: readonly LoadRequest[]): Promise<void> {
  for (const kind of new Set(load.map((request) => request.kind))) {
    await bed.boot(`${kind}-0-0`, { projectId: projectOf(kind), cold: true });
    await bed.release(`${kind}-0-0`);
    await bed.host.templates?.settled();
  }
}

async function serve(
  bed: GuestHost,
  vmId: string,
  { kind, holdMs }: LoadRequest,
  starts: Map<string, number[]>,
  readyMs: number[],
): Promise<void> {
  const begun = performance.now();
  const { start } = await bed.boot(vmId, { projectId: projectOf(kind) });
  const took = performance.now() - begun;
  readyMs.push(took);
  starts.set(start, [...(starts.get(start) ?? []), took]);
  await delay(Math.min(LONGEST_HOLD_MS, holdMs * HOLD_SHARE));
  await bed.release(vmId);
}

/** What a workflow does every minute where a stack runs. */
async function maintain(bed: GuestHost, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await bed.host.pool.maintain().catch(() => undefined);
    await delay(MAINTAIN_EVERY_MS, undefined, { signal }).catch(() => undefined);
  }
}
