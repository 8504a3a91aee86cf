/** A service that floods its log: real host process, store, gateway and command line; the host process is killed. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createKilnClient, type KilnClient } from '../../../client/http/kiln-client.ts';
import { CLI_ENTRY } from '../../../config/checkout.ts';
import { inheritedEnvironment } from '../../../config/environment.ts';
import { defined } from '../../../domain/defined.ts';
import type { LogEntry } from '../../../domain/logs/log-entry.ts';
import { createGateway, type Gateway } from '../../../gateway/gateway.ts';
import { hostLogsOverHttp } from '../../../gateway/logs/host-logs.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { createFakeWorkloads, type FakeWorkloads } from '../../support/gateway/fake-workloads.ts';
import { HOST_TOKEN, placesBelow } from '../../support/host/fake-host.ts';
import { whatIsLeft } from '../../support/host/nothing-left.ts';
import { freshObjectStore, storeOptions } from '../../support/servers/object-store.ts';
import { silentLogger } from '../../support/workers/silent-logger.ts';

const TOKEN = 'a-token-of-the-flood-tests';
const VM = 'flood-0-0';
const ID = 'w1';
const MIB = 1024 * 1024;
const POLL_MS = 20;
const floodSchema = z.object({ lines: z.number(), bytes: z.number(), flooding: z.boolean() });

let root: string;
let store: ObjectStore;
let workloads: FakeWorkloads;
let gateway: Gateway;
let api: KilnClient;
let apiUrl: string;
let host: ChildProcess | undefined;
let serviceUrl: string;
/** What the present host process has written to stderr. */
let errors: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kf-'));
  store = await freshObjectStore();
  workloads = createFakeWorkloads();
  gateway = createGateway({
    workloads,
    store,
    isPolled: async () => true,
    hostLogs: hostLogsOverHttp({ token: HOST_TOKEN, timeoutMs: 5_000, maxBytes: 16 * MIB }),
    token: TOKEN,
    log: silentLogger,
    version: '0.0.0-test',
    limits: { streamPollMs: POLL_MS },
  });
  apiUrl = await gateway.listen({ host: '127.0.0.1', port: 0 });
  api = createKilnClient({ apiUrl, token: TOKEN });
  await workloads.create({ servicePath: 'log-flood' }, ID);
  workloads.patch(ID, { vm: { hostId: 'h1', epoch: 0, boot: 0, vmId: VM } });
});
afterEach(async () => {
  let end: unknown;
  if (host !== undefined) {
    const ended = once(host, 'exit');
    host.kill('SIGTERM');
    end = await ended;
    host = undefined;
  }
  await gateway.close();
  store.close();
  const left = await whatIsLeft(placesBelow(root));
  await rm(root, { recursive: true, force: true });
  // A host that ended otherwise has left its VM, and has said why.
  expect({ end, errors, left }).toEqual({ end: [0, null], errors: '', left: [] });
});

/** Starts the host process on the existing state. @returns once the service answers through it */
async function startHost(guestRingBytes: number): Promise<void> {
  const script = fileURLToPath(new URL('../../fixtures/flooding-host.ts', import.meta.url));
  const args = [script, root, VM, ID, JSON.stringify(storeOptions(store.bucket)), String(guestRingBytes)];
  host = spawn('setpriv', ['--pdeathsig', 'TERM', process.execPath, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  errors = '';
  host.stderr?.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const ended = once(host, 'exit').then(() => {
    throw new Error(`the host process ended before its service answered: ${errors}`);
  });
  // The tests later kill the process on purpose.
  ended.catch(() => undefined);
  const [line] = await Promise.race([once(host.stdout ?? host, 'data'), ended]);
  serviceUrl = z.object({ url: z.string() }).parse(JSON.parse(String(line))).url;
}

async function killHost(): Promise<void> {
  if (host === undefined) throw new Error('no host process runs');
  const ended = once(host, 'exit');
  host.kill('SIGKILL');
  await ended;
}

const progress = async () => floodSchema.parse(await (await fetch(serviceUrl)).json());
const flood = (query: string) => fetch(`${serviceUrl}/flood?${query}`, { method: 'POST' });

/** Follows the log, with as many connections as needed, until `enough` returns true. */
async function follow(
  found: string[],
  enough: () => boolean,
  cutEvery = Number.POSITIVE_INFINITY,
): Promise<{ connections: number }> {
  let after: string | undefined;
  for (let connections = 1; ; connections++) {
    let seen = 0;
    for await (const event of api.streamWorkloadLogs(ID, { retryMs: 1, ...defined({ after }) })) {
      if (event.kind !== 'log') throw new Error('the log ended');
      after = event.cursor;
      found.push(event.entry.message);
      if (enough()) return { connections };
      if (++seen >= cutEvery) break;
    }
  }
}

async function pages(): Promise<LogEntry[]> {
  const entries: LogEntry[] = [];
  let after: string | undefined;
  for (let more = true; more; ) {
    const query = { limit: 1000, ...defined({ after }) };
    const page = await api.workloadLogs({ params: { id: ID }, query });
    expect(page.incomplete).toBeUndefined();
    entries.push(...page.entries);
    ({ more, cursor: after } = page);
  }
  return entries;
}

async function commandLine(): Promise<string[]> {
  const env = { ...inheritedEnvironment(), KILN_API_URL: apiUrl, KILN_TOKEN: TOKEN };
  const child = spawn(process.execPath, [CLI_ENTRY, 'workload', 'logs', ID, '--json'], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const shape = z.object({ message: z.string() });
  const printed = await text(child.stdout);
  return printed
    .trimEnd()
    .split('\n')
    .map((line) => shape.parse(JSON.parse(line)).message);
}

describe('a service that floods its log', () => {
  it('100,000 lines come complete and in order by pages, command line and a cut stream, past a kill -9', async () => {
    const LINES = 100_000;
    const expected = Array.from({ length: LINES }, (_, n) => `flood ${n} `.padEnd(39, '.'));
    await startHost(32 * MIB);
    await flood(`lines=${LINES}&bytes=40`);
    const streamed: string[] = [];
    const following = follow(streamed, () => streamed.length >= LINES, LINES / 7);
    await expect.poll(() => streamed.length, { interval: POLL_MS, timeout: 60_000 }).toBeGreaterThan(1_000);
    await killHost();
    await startHost(32 * MIB);
    expect((await following).connections).toBeGreaterThan(5);
    const differs = (found: readonly string[]) => found.findIndex((message, n) => message !== expected[n]);
    expect([streamed.length, differs(streamed)]).toEqual([LINES, -1]);
    const paged = (await pages()).map(({ message }) => message);
    expect([paged.length, differs(paged)]).toEqual([LINES, -1]);
    const printed = await commandLine();
    expect([printed.length, differs(printed)]).toEqual([LINES, -1]);
  });

  it('is not held up by it, also while nobody reads, and every byte is in a line or in a gap', async () => {
    const BYTES = 1_000;
    await startHost(64 * 1024);
    await flood(`ms=3000&bytes=${BYTES}`);
    const first = await progress();
    await killHost();
    await delay(500);
    await startHost(64 * 1024);
    const seen = [await progress()];
    expect(seen[0]?.lines).toBeGreaterThan(first.lines);
    while (seen.at(-1)?.flooding === true) seen.push(await progress());
    const written = seen.at(-1)?.bytes ?? 0;
    const last = `flood ${written / BYTES - 1} `;
    const streamed: string[] = [];
    await follow(streamed, () => streamed.at(-1)?.startsWith(last) === true);
    const { gaps, ...sums } = accountFor(await pages(), BYTES);
    expect(gaps).toBeGreaterThan(0);
    expect(sums).toEqual({ bytes: written, wrong: [] });
  });
});

/**
 * Adds up whole lines, pieces of lines beside gaps, and gaps. The end of the line before a gap may be in the gap or not:
 * then the position that the next whole line states decides.
 */
function accountFor(entries: readonly LogEntry[], lineBytes: number) {
  let bytes = 0;
  /** Ends of lines since the last whole one that may have been counted once too often, or once too little. */
  let doubts = { over: 0, under: 0 };
  let gaps = 0;
  const wrong: string[] = [];
  for (const [index, { message, level }] of entries.entries()) {
    const lost = /(\d+) bytes (?:of output )?lost: /.exec(message)?.[1];
    const number = /^flood (\d+) \.+$/.exec(message)?.[1];
    const beforeGap = / lost: /.test(entries[index + 1]?.message ?? '');
    if (lost !== undefined) {
      gaps += 1;
      bytes += Number(lost);
      if (level !== 'warn') wrong.push(`${level} ${message}`);
    } else if (number !== undefined && message.length === lineBytes - 1) {
      const place = Number(number) * lineBytes;
      const isAsCounted = place >= bytes - doubts.over && place <= bytes + doubts.under;
      if (!isAsCounted) wrong.push(`${message.slice(0, 20)} stands at ${bytes}`);
      bytes = place + lineBytes;
      doubts = { over: beforeGap ? 1 : 0, under: 0 };
    } else {
      bytes += Buffer.byteLength(message) + (beforeGap ? 0 : 1);
      if (beforeGap) doubts = { ...doubts, under: doubts.under + 1 };
    }
  }
  return { bytes, gaps, wrong };
}
