import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { stackIdentity } from '../../cli/dev/stack-identity.ts';
import { createKilnClient, type KilnClient } from '../../client/http/index.ts';
import { CHECKOUT } from '../../config/checkout.ts';
import type { LogEntry } from '../../domain/logs/log-entry.ts';
import { type GatewayProcess, spawnGateway } from '../../test/support/gateway/spawn-gateway.ts';
import {
  type CountingProxy,
  grpcCalls,
  httpRequests,
  startCountingProxy,
} from '../../test/support/servers/counting-proxies.ts';
import { type BenchStack, preciseNow, startBenchStack } from '../dev-stack.ts';
import type { Measurement } from '../figure.ts';
import type { GroupOptions } from '../group-options.ts';

const READERS = 200;
const WORKLOADS = 4;
/** Polling readers, without a live stream: a page each half second. */
const POLL_MS = 500;
/** So many of those readers, for so long: as many as there are of the others would need the whole machine. */
const POLLERS = 20;
const POLLERS_MS = 10_000;
const LINES = 30;
/** Not a multiple of the poller's pause: lines come at every moment of it. */
const LINE_EVERY_MS = 1_130;

/**
 * Readers of quiet logs, of services in real guests, at a gateway whose calls of Temporal and store go through proxies that
 * count them. Lines are asked for one at a time. `log-line` is the time from the request to the service to the line at a
 * reader, of which the request itself is a part; `log-line-from-host` that from when the host took it from the guest.
 */
export async function measureLogReaders(options: GroupOptions): Promise<readonly Measurement[]> {
  const { directory, signal, say, n } = options;
  const stack = await startBenchStack(directory, signal);
  const bed = await prepare(stack, directory).catch(async (error: unknown) => {
    await stack.close();
    throw error;
  });
  const done = new AbortController();
  try {
    const urls: string[] = [];
    // One after the other: guests that boot together take longer than they may on a small machine.
    for (const id of bed.ids) urls.push(await deploy(stack, id));
    const client = createKilnClient({ apiUrl: bed.gateway.url, token: stack.info.token });
    const readers = Array.from({ length: READERS }, (_, index) => {
      const id = bed.ids[index % WORKLOADS] ?? '';
      return new Lines(streamed(client, id, AbortSignal.any([done.signal, signal])));
    });
    // Every reader has had a line, so none of them is still at its first pages.
    await Promise.all(urls.map((url) => sayLine(url, 'ready', signal)));
    await Promise.all(readers.map((reader) => reader.until('ready')));
    const idle = await bed.count(() => delay(n * 1_000, undefined, { signal }));
    say(`log-readers: ${READERS} idle readers, ${n} s: ${told(idle)}`);
    const figures = await timeLines(client, { id: bed.ids[0] ?? '', url: urls[0] ?? '', reader: readers[0], signal });
    done.abort();
    const polled = await bed.count(() => pollAll(client, bed.ids, signal));
    const share = (READERS / POLLERS) * ((n * 1_000) / POLLERS_MS);
    say(`  ${POLLERS} readers that poll, ${POLLERS_MS / 1_000} s: ${told(polled)}, ×${share} for as many and as long`);
    return figures;
  } finally {
    done.abort();
    await bed.close();
    await stack.close();
  }
}

interface Calls {
  readonly temporal: number;
  readonly store: number;
}

function told({ temporal, store }: Calls): string {
  return `${temporal} calls of Temporal, ${store} of the store`;
}

interface Bed {
  readonly ids: readonly string[];
  readonly gateway: GatewayProcess;
  /** @returns the calls that the gateway made meanwhile */
  count(work: () => Promise<unknown>): Promise<Calls>;
  close(): Promise<void>;
}

/** A second gateway of the stack, behind proxies, and the services that it will tell of. */
async function prepare({ info }: BenchStack, directory: string): Promise<Bed> {
  const source = join(CHECKOUT, 'test/fixtures/services/says');
  await cp(source, join(directory, 'project', 'says'), { recursive: true });
  const temporal = await startCountingProxy(info.temporal.address, grpcCalls);
  const store = await startCountingProxy(new URL(info.s3.endpoint).host, httpRequests);
  const home = join(directory, 'home');
  const { hostToken, s3AccessKey, s3SecretKey } = await stackIdentity(home);
  const keys = { accessKeyId: s3AccessKey, secretAccessKey: s3SecretKey };
  const gateway = await spawnGateway({
    home,
    token: info.token,
    hostToken,
    temporal: { address: temporal.address, namespace: info.temporal.namespace },
    s3: { endpoint: `http://${store.address}`, bucket: info.s3.bucket, ...keys },
  });
  return {
    ids: Array.from({ length: WORKLOADS }, (_, index) => `says-${index}`),
    gateway,
    count: (work) => counted({ temporal, store }, work),
    close: async () => {
      await gateway.close();
      await Promise.all([temporal.close(), store.close()]);
    },
  };
}

async function counted(
  { temporal, store }: Record<keyof Calls, CountingProxy>,
  work: () => Promise<unknown>,
): Promise<Calls> {
  const before = { temporal: temporal.calls(), store: store.calls() };
  await work();
  return { temporal: temporal.calls() - before.temporal, store: store.calls() - before.store };
}

async function deploy(stack: BenchStack, id: string): Promise<string> {
  await stack.create({ id, servicePath: 'says', resources: { vcpus: 1, memMib: 256 } });
  const { url } = await stack.until(id, 'running');
  if (url === undefined) throw new Error(`${id} runs without a url`);
  return url;
}

async function sayLine(url: string, text: string, signal: AbortSignal): Promise<void> {
  await (await fetch(`${url}/say?text=${text}`, { signal })).text();
}

/** When a line was there, ms since 1970. */
interface Arrival {
  readonly at: number;
  /** When its host took it from the guest. */
  readonly writtenAt: number;
}

/** Lines of one reader as they come. */
class Lines {
  private readonly seen = new Map<string, Arrival>();
  private readonly waiting = new Map<string, (arrival: Arrival) => void>();

  constructor(entries: AsyncIterable<LogEntry>) {
    void this.take(entries);
  }

  /** @returns once the reader has a line of this text */
  until(text: string): Promise<Arrival> {
    const seen = this.seen.get(text);
    return seen === undefined ? new Promise((resolve) => this.waiting.set(text, resolve)) : Promise.resolve(seen);
  }

  private async take(entries: AsyncIterable<LogEntry>): Promise<void> {
    for await (const { message, timestamp } of entries) {
      const arrival = { at: preciseNow(), writtenAt: Date.parse(timestamp) };
      this.seen.set(message, arrival);
      this.waiting.get(message)?.(arrival);
    }
  }
}

async function* streamed(client: KilnClient, id: string, signal: AbortSignal): AsyncIterable<LogEntry> {
  for await (const event of client.streamWorkloadLogs(id, { signal })) {
    if (event.kind === 'log') yield event.entry;
  }
}

/** The log by pages, polled. */
async function* polled(client: KilnClient, id: string, signal: AbortSignal): AsyncIterable<LogEntry> {
  let after: string | undefined;
  while (!signal.aborted) {
    const page = await client.workloadLogs({ params: { id }, query: after === undefined ? {} : { after } });
    yield* page.entries;
    after = page.cursor;
    if (!page.more) await delay(POLL_MS, undefined, { signal }).catch(() => undefined);
  }
}

async function timeLines(
  client: KilnClient,
  { id, url, reader, signal }: { id: string; url: string; reader: Lines | undefined; signal: AbortSignal },
): Promise<readonly Measurement[]> {
  if (reader === undefined) throw new Error('there is no reader');
  const done = new AbortController();
  const poller = new Lines(polled(client, id, AbortSignal.any([done.signal, signal])));
  const times: { readonly [What in 'asked' | 'written']: readonly number[][] } = {
    asked: [[], []],
    written: [[], []],
  };
  for (let line = 0; line < LINES; line++) {
    await delay(LINE_EVERY_MS, undefined, { signal });
    const began = preciseNow();
    const seen = [reader, poller].map((one) => one.until(`line-${line}`));
    await sayLine(url, `line-${line}`, signal);
    for (const [which, { at, writtenAt }] of (await Promise.all(seen)).entries()) {
      times.asked[which]?.push(at - began);
      times.written[which]?.push(at - writtenAt);
    }
  }
  done.abort();
  const words = `a page each ${POLL_MS} ms`;
  const figure = (name: string, [kiln = [], samples = []]: readonly number[][]): Measurement => ({
    name,
    unit: 'ms',
    kiln,
    rival: { words, samples },
  });
  return [figure('log-line', times.asked), figure('log-line-from-host', times.written)];
}

async function pollAll(client: KilnClient, ids: readonly string[], signal: AbortSignal): Promise<void> {
  const done = new AbortController();
  const ending = AbortSignal.any([done.signal, signal]);
  const pollers = Array.from({ length: POLLERS }, async (_, index) => {
    for await (const _line of polled(client, ids[index % ids.length] ?? '', ending));
  });
  await delay(POLLERS_MS, undefined, { signal });
  done.abort();
  await Promise.all(pollers);
}
