import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { PROCESSES_FILE, readRecorded } from '../../../cli/dev/left-processes.ts';
import { createKilnClient, type KilnClient, type Session } from '../../../client/http/index.ts';
import {
  type CountingProxy,
  grpcCalls,
  httpRequests,
  startCountingProxy,
} from '../../../test/support/servers/counting-proxies.ts';
import { type Servers, startServers } from '../../../test/support/servers/servers.global.ts';
import { parseCpuMs } from '../../../vmm/limits/process-usage.ts';
import { startBenchStack } from '../../dev-stack.ts';
import type { Measurement } from '../../figure.ts';
import type { GroupOptions } from '../../group-options.ts';
import { untilWarm } from '../../session-calls.ts';
import { measureManyWakes, measureSlowStore } from './many.ts';

const SESSIONS = 300;
/** Sessions that begin at a time: each starts some processes. */
const TOGETHER = 4;
/** What the last runs have left to do is done by then: output is shipped, guests are frozen. */
const SETTLE_MS = 30_000;
const PROCESSES = ['control', 'host', 'gateway'] as const;
/** Room for every session, whatever this machine has: a fake guest takes little of it. */
const ROOM = { KILN_HOST_VCPUS: '10000', KILN_HOST_MEM_MIB: '10000000', KILN_HOST_MEM_FLOOR_MIB: '0' };

/**
 * What warm sessions cost while nothing is asked of them: calls of Temporal and of the store by control worker, host worker and gateway,
 * counted by proxies that these reach the servers through, and CPU time of the three, in as many seconds as samples. The
 * rival is the same stack in as many seconds before its first session.
 */
export async function measureSessionRest(options: GroupOptions): Promise<readonly Measurement[]> {
  const { directory, signal, say, n, sessions = SESSIONS } = options;
  const servers = await startServers();
  const temporal = await startCountingProxy(servers.temporalAddress, grpcCalls);
  const store = await startCountingProxy(new URL(servers.s3.endpoint).host, httpRequests);
  try {
    const stack = await startBenchStack(directory, signal, {
      ...ROOM,
      ...environmentOf(servers, { temporal, store }),
    });
    try {
      const meter = { temporal, store, record: join(directory, 'home', PROCESSES_FILE), ms: n * 1_000, signal };
      await delay(SETTLE_MS, undefined, { signal });
      const without = await used(meter);
      say(`session-rest: no session, ${n} s: ${told(without)}`);
      const client = createKilnClient(stack.info);
      const all = await beginAll(client, sessions, options);
      await delay(SETTLE_MS, undefined, { signal });
      const withAll = await used(meter);
      say(`session-rest: ${sessions} warm sessions, ${n} s: ${told(withAll)}`);
      say(`  of each session, an hour: ${perSession(withAll, without, sessions * (n / 3_600))}`);
      return [
        ...figures(withAll, without, sessions),
        await measureManyWakes(all, options),
        ...(await measureSlowStore(client, all, store, options)),
      ];
    } finally {
      await stack.close();
    }
  } finally {
    await Promise.all([temporal.close(), store.close()]);
    await servers.stop();
  }
}

interface Proxies {
  readonly temporal: CountingProxy;
  readonly store: CountingProxy;
}

function environmentOf({ s3 }: Servers, { temporal, store }: Proxies): Record<string, string> {
  return {
    KILN_DRIVER: 'fake',
    KILN_ALLOW_FAKE_DRIVER: '1',
    TEMPORAL_ADDRESS: temporal.address,
    KILN_S3_ENDPOINT: `http://${store.address}`,
    KILN_S3_ACCESS_KEY: s3.accessKeyId,
    KILN_S3_SECRET_KEY: s3.secretAccessKey,
  };
}

async function beginAll(client: KilnClient, count: number, { say, signal }: GroupOptions): Promise<Session[]> {
  const all: Session[] = [];
  let next = 0;
  const beginSome = async (): Promise<void> => {
    while (next < count) {
      next += 1;
      const begun = next;
      all.push(await begin(client, `rests-${begun}`, signal));
      if (begun % 50 === 0) say(`session-rest: ${begun} of ${count} sessions`);
    }
  };
  await Promise.all(Array.from({ length: TOGETHER }, beginSome));
  return all;
}

async function begin(client: KilnClient, thread: string, signal: AbortSignal): Promise<Session> {
  const session = client.session(thread, { resources: { vcpus: 1, memMib: 256 } });
  await session.command(['true'], { signal }).result();
  await untilWarm(session, signal);
  return session;
}

/** All the sums of one span of time. */
interface Used {
  readonly temporal: number;
  readonly store: number;
  readonly cpuMs: Readonly<Record<(typeof PROCESSES)[number], number>>;
}

interface Meter extends Proxies {
  readonly record: string;
  readonly ms: number;
  readonly signal: AbortSignal;
}

/** @throws Error where a process is not the same at the end as at the beginning */
async function used({ temporal, store, record, ms, signal }: Meter): Promise<Used> {
  const before = { temporal: temporal.calls(), store: store.calls(), cpu: await cpuOf(record) };
  await delay(ms, undefined, { signal });
  const cpu = await cpuOf(record);
  const grown = (name: (typeof PROCESSES)[number]): number => {
    if (cpu[name].pid !== before.cpu[name].pid) throw new Error(`${name} was started again meanwhile`);
    return cpu[name].ms - before.cpu[name].ms;
  };
  return {
    temporal: temporal.calls() - before.temporal,
    store: store.calls() - before.store,
    cpuMs: { control: grown('control'), host: grown('host'), gateway: grown('gateway') },
  };
}

interface Cpu {
  readonly pid: number;
  readonly ms: number;
}

async function cpuOf(record: string): Promise<Record<(typeof PROCESSES)[number], Cpu>> {
  const processes = await readRecorded(record);
  const read = async (name: (typeof PROCESSES)[number]): Promise<Cpu> => {
    const pid = processes[name]?.pid ?? 0;
    return { pid, ms: parseCpuMs(await readFile(`/proc/${pid}/stat`, 'utf8')) ?? Number.NaN };
  };
  return { control: await read('control'), host: await read('host'), gateway: await read('gateway') };
}

function told({ temporal, store, cpuMs }: Used): string {
  const cpu = PROCESSES.map((name) => `${name} ${cpuMs[name]}`).join(', ');
  return `${temporal} calls of Temporal, ${store} of the store, CPU in ms: ${cpu}`;
}

/** @param sessionHours the sessions times the time that they rested, hours */
function perSession(withAll: Used, without: Used, sessionHours: number): string {
  const each = (pick: (sums: Used) => number): string => ((pick(withAll) - pick(without)) / sessionHours).toFixed(1);
  const cpu = PROCESSES.map((name) => `${name} ${each(({ cpuMs }) => cpuMs[name])}`).join(', ');
  return `${each(({ temporal }) => temporal)} calls of Temporal, ${each(({ store }) => store)} of the store, CPU in ms: ${cpu}`;
}

function figures(withAll: Used, without: Used, sessions: number): Measurement[] {
  const words = `the same stack without a session, in as many seconds; ${sessions} sessions`;
  const figure = (name: string, unit: 'calls' | 'ms', pick: (sums: Used) => number): Measurement => ({
    name,
    unit,
    kiln: [pick(withAll)],
    rival: { words, samples: [pick(without)] },
  });
  return [
    figure('session-rest-temporal', 'calls', ({ temporal }) => temporal),
    figure('session-rest-store', 'calls', ({ store }) => store),
    ...PROCESSES.map((name) => figure(`session-rest-cpu-${name}`, 'ms', ({ cpuMs }) => cpuMs[name])),
  ];
}
