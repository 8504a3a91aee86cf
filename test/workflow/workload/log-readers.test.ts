/** Readers of quiet logs: their costs for Temporal and the store, counted by proxies in front of both. */
import { Client, Connection } from '@temporalio/client';
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from 'vitest';
import { createKilnClient, type KilnClient } from '../../../client/http/kiln-client.ts';
import { createWorkloadClient } from '../../../client/temporal/workloads/workload-client.ts';
import { createGateway, type Gateway } from '../../../gateway/gateway.ts';
import { hostLogsOverHttp } from '../../../gateway/logs/host-logs.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { createWorkloadDocuments } from '../../../store/workloads/workload-documents.ts';
import {
  type CountingProxy,
  grpcCalls,
  httpRequests,
  startCountingProxy,
} from '../../support/servers/counting-proxies.ts';
import { freshObjectStore } from '../../support/servers/object-store.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';

const TOKEN = 'a-token-of-the-reader-tests';
const IDS = ['quiet-1', 'quiet-2', 'quiet-3', 'quiet-4'];
const READERS = 200;
/** Shorter than in production, so that a few seconds contain many of each. */
const KEEP_ALIVE_MS = 300;
const FOLLOW_MS = 200;
const SIGNS_OF_LIFE = 8;

let kiln: Harness;
let temporal: CountingProxy;
let s3: CountingProxy;
let connection: Connection;
let store: ObjectStore;
let gateway: Gateway;
let base: string;
let api: KilnClient;

beforeAll(async () => {
  // A busy machine must not look like a silent host: for a silent host the readers would have to ask Temporal.
  kiln = await startHarness({ policies: { supervise: { heartbeatMs: 30_000 }, host: { scheduleToStartMs: 30_000 } } });
  temporal = await startCountingProxy(inject('temporalAddress'), grpcCalls);
  s3 = await startCountingProxy(new URL(inject('s3').endpoint).host, httpRequests);
  connection = await Connection.connect({ address: temporal.address });
  store = await freshObjectStore({ endpoint: `http://${s3.address}`, bucket: kiln.store.bucket });
  gateway = createGateway({
    workloads: createWorkloadClient({
      client: new Client({ connection, namespace: kiln.namespace }),
      archive: createWorkloadDocuments(store),
    }),
    store,
    isPolled: async () => true,
    hostLogs: hostLogsOverHttp({ token: 'a-token-for-tests', timeoutMs: 3_000, maxBytes: 16_000_000 }),
    token: TOKEN,
    log: { info: () => undefined, warn: () => undefined, error: console.error },
    version: '0',
    limits: { streamKeepAliveMs: KEEP_ALIVE_MS, streamFollowMs: FOLLOW_MS, maxLogStreams: READERS },
  });
  base = await gateway.listen({ host: '127.0.0.1', port: 0 });
  api = createKilnClient({ apiUrl: base, token: TOKEN });
  for (const id of IDS) await kiln.workloads.create({ servicePath: 'says' }, id);
  for (const id of IDS) await kiln.untilStage(id, 'running');
});
afterAll(async () => {
  await gateway.close();
  await connection.close();
  store.close();
  await Promise.all([temporal.close(), s3.close()]);
  await kiln.close();
});

const opened: RawReader[] = [];
afterEach(() => {
  for (const reader of opened.splice(0)) reader.leave();
});

/** A reader of the raw stream: comments in it show that there is nothing to read. */
class RawReader {
  readonly messages: string[] = [];
  signs = 0;
  isOver = false;
  private readonly gone = new AbortController();

  constructor(id: string) {
    opened.push(this);
    void this.read(id).catch((error: unknown) => {
      if (!this.gone.signal.aborted) throw error;
    });
  }

  leave(): void {
    this.gone.abort();
  }

  private async read(id: string): Promise<void> {
    const headers = { authorization: `Bearer ${TOKEN}` };
    const reply = await fetch(`${base}/api/workloads/${id}/logs/stream`, { headers, signal: this.gone.signal });
    let rest = '';
    const decoder = new TextDecoder();
    for await (const chunk of reply.body ?? []) {
      const events = (rest + decoder.decode(chunk, { stream: true })).split('\n\n');
      rest = events.pop() ?? '';
      for (const event of events) this.take(event);
    }
  }

  private take(event: string): void {
    if (event.startsWith(': ')) this.signs += 1;
    if (event.startsWith('event: end')) this.isOver = true;
    const data = /^id: .*\nevent: log\ndata: (.*)$/m.exec(event)?.[1];
    if (data !== undefined) this.messages.push(Object(JSON.parse(data)).message);
  }
}

/** Waits until each reader has received `signs` more signs that there is nothing to read. */
async function idle(readers: readonly RawReader[], signs: number): Promise<void> {
  const from = readers.map((reader) => reader.signs);
  const least = () => Math.min(...readers.map((reader, index) => reader.signs - (from[index] ?? 0)));
  await expect.poll(least, { timeout: 60_000 }).toBeGreaterThanOrEqual(signs);
}

const urlOf = async (id: string) => (await kiln.workloads.get(id)).state.vm?.url ?? '';
const held = () => kiln.host.logs.heldFollows();

describe('readers of quiet logs', () => {
  it(`${READERS} of them cost no call of Temporal and none of the store, and get the next line all the same`, async () => {
    const readers = Array.from({ length: READERS }, (_, index) => new RawReader(IDS[index % IDS.length] ?? ''));
    await expect.poll(() => readers.every(({ messages }) => messages.includes('deploy → running: healthy'))).toBe(true);
    await idle(readers, 1);
    // One request at the host for each workload, however many readers it has.
    await expect.poll(held).toBe(IDS.length);
    const before = { temporal: temporal.calls(), s3: s3.calls() };
    expect(before.temporal).toBeGreaterThan(0);
    expect(before.s3).toBeGreaterThan(0);
    await idle(readers, SIGNS_OF_LIFE);
    const [first = ''] = IDS;
    await fetch(`${await urlOf(first)}/say?text=hello`);
    const some = readers.filter((_, index) => index % IDS.length === 0);
    await expect.poll(() => some.every(({ messages }) => messages.at(-1) === 'hello')).toBe(true);
    await idle(readers, 1);
    expect({ temporal: temporal.calls(), s3: s3.calls() }).toEqual(before);
    expect(readers.filter(({ messages }) => messages.includes('hello'))).toHaveLength(some.length);
    for (const reader of readers) reader.leave();
    await expect.poll(held).toBe(0);
  });

  it('go on over a restart of the host worker, and cost nothing again once its work goes on', async () => {
    const [, id = ''] = IDS;
    const reader = new RawReader(id);
    await idle([reader], 1);
    await expect.poll(held).toBe(1);
    const url = await urlOf(id);
    await kiln.restartHost();
    await fetch(`${url}/say?text=after`);
    await expect.poll(() => reader.messages.at(-1), { timeout: 20_000 }).toBe('after');
    await expect.poll(held, { timeout: 20_000 }).toBe(1);
    await idle([reader], 1);
    const before = { temporal: temporal.calls(), s3: s3.calls() };
    await idle([reader], SIGNS_OF_LIFE);
    expect({ temporal: temporal.calls(), s3: s3.calls() }).toEqual(before);
    reader.leave();
  });

  it('see each move between stages from the first to the last, each line once', async () => {
    const id = 'followed';
    await api.createWorkload({ body: { id, servicePath: 'says' } });
    const reader = new RawReader(id);
    await kiln.untilStage(id, 'running');
    await expect.poll(() => reader.messages.at(-1)).toBe('deploy → running: healthy');
    await kiln.workloads.stop(id, { waitMs: 20_000 });
    await expect.poll(() => reader.isOver, { timeout: 20_000 }).toBe(true);
    const { entries } = await api.workloadLogs({ params: { id }, query: { limit: 1000 } });
    expect([...reader.messages].sort()).toEqual(entries.map(({ message }) => message).sort());
    expect(reader.messages.filter((message) => message.includes(' → '))).toHaveLength(5);
    for (const one of IDS) await kiln.workloads.stop(one, { waitMs: 20_000 });
    expect(await kiln.left()).toEqual([]);
  });
});
