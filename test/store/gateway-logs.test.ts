/** The log of a workload through the gateway: store and host merged, pages, streams, misbehaving readers. */

import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createKilnClient } from '../../client/http/kiln-client.ts';
import type { LogEvent } from '../../client/http/log-events.ts';
import { defined } from '../../domain/defined.ts';
import type { NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import { storeKeys } from '../../domain/names.ts';
import { createControlLog } from '../../store/logs/control-log.ts';
import {
  authorized,
  type GatewayFixture,
  HOST_ID,
  newId,
  startGateway,
  TOKEN,
  urlOf,
} from '../support/gateway/gateway-fixture.ts';

const AT = '2026-01-02T03:04:05.678Z';
let fixture: GatewayFixture;
let api: GatewayFixture['api'];
let base: GatewayFixture['base'];
let hostUrl: GatewayFixture['hostUrl'];
let spools: GatewayFixture['spools'];
let store: GatewayFixture['store'];
let workloads: GatewayFixture['workloads'];
beforeAll(async () => {
  fixture = await startGateway();
  ({ api, base, hostUrl, spools, store, workloads } = fixture);
});
afterAll(() => fixture.close());

const line = (n: number, message = `line ${n}`, seconds = n): NumberedLogEntry => ({
  timestamp: new Date(Date.parse(AT) + seconds * 1000).toISOString(),
  stage: 'build',
  message,
  level: 'info',
  epoch: 1,
  writer: HOST_ID,
  n,
});

/** A workload whose lines 0–2 are in the store, 2–4 on its host, and one line of the control writer in between. */
async function loggedWorkload(): Promise<string> {
  const id = newId();
  await workloads.create({ servicePath: 'services/a' }, id);
  workloads.patch(id, {
    vm: { hostId: HOST_ID, epoch: 1, boot: 1, vmId: 'vm-1', pid: 42, port: 31_000, url: 'http://127.0.0.1:31000' },
  });
  const shipped = [line(0), line(1), line(2)].map((entry) => `${JSON.stringify(entry)}\n`).join('');
  await store.putBlob(storeKeys.logChunk(id, 1, HOST_ID, 0), { data: Buffer.from(shipped) });
  spools.set(id, [line(2), line(3), line(4)]);
  const timestamp = line(0, '', 1.5).timestamp;
  await createControlLog(store).append({
    workloadId: id,
    epoch: 1,
    n: 0,
    stage: 'pending',
    level: 'info',
    message: 'control',
    timestamp,
  });
  return id;
}
const MERGED = ['line 0', 'line 1', 'control', 'line 2', 'line 3', 'line 4'];

describe('logs', () => {
  test('of store and host come merged by time, each line once, in pages of any size', async () => {
    const id = await loggedWorkload();
    for (const limit of [1, 2, 3, 100]) {
      const messages: string[] = [];
      let after: string | undefined;
      for (let more = true; more; ) {
        const page = await api.workloadLogs({
          params: { id },
          query: { limit, ...defined({ after }) },
        });
        expect(page.entries.length).toBeLessThanOrEqual(limit);
        messages.push(...page.entries.map(({ message }) => message));
        after = page.cursor;
        more = page.more;
      }
      expect(messages).toEqual(MERGED);
      // The cursor stays valid: later lines follow it.
      spools.get(id)?.push(line(5));
      const later = await api.workloadLogs({ params: { id }, query: defined({ after }) });
      expect(later.entries.map(({ message }) => message)).toEqual(['line 5']);
      spools.get(id)?.pop();
    }
  });

  test('their end is shown with the workload', async () => {
    const view = await api.getWorkload({ params: { id: await loggedWorkload() } });
    expect(view.logs.map(({ message }) => message)).toEqual(MERGED);
    expect(view).toMatchObject({
      logsTruncated: false,
      containerId: 'vm-1',
      pid: 42,
      port: 31_000,
      url: 'http://127.0.0.1:31000',
    });
  });

  test('are read from the store alone where the host is away, and said to be incomplete', async () => {
    const id = await loggedWorkload();
    await fixture.register('http://127.0.0.1:1');
    const page = await api.workloadLogs({ params: { id } });
    await fixture.register(hostUrl);
    expect(page.entries.map(({ message }) => message)).toEqual(['line 0', 'line 1', 'control', 'line 2']);
    expect(page.incomplete).toContain(HOST_ID);
    const rest = await api.workloadLogs({ params: { id }, query: { after: page.cursor } });
    expect(rest.entries.map(({ message }) => message)).toEqual(['line 3', 'line 4']);
  });

  test('before there is a VM the host is asked for its newest epoch', async () => {
    const id = newId();
    await workloads.create({ servicePath: 'services/a' }, id);
    spools.set(id, [line(0), line(1), { ...line(0, 'second epoch'), epoch: 2 }]);
    const snapshot = await workloads.get(id);
    const placed = { ...snapshot, hostId: HOST_ID };
    const { get } = workloads;
    workloads.get = async () => placed;
    const page = await api.workloadLogs({ params: { id } });
    const rest = await api.workloadLogs({ params: { id }, query: { after: page.cursor } });
    workloads.get = get;
    expect(page.entries.map(({ message }) => message)).toEqual(['second epoch']);
    expect(rest.entries).toEqual([]);
  });

  test('are streamed as they are written, to the end', async () => {
    const id = await loggedWorkload();
    const events: LogEvent[] = [];
    for await (const event of api.streamWorkloadLogs(id)) {
      events.push(event);
      if (events.length === MERGED.length) {
        spools.get(id)?.push(line(5));
        workloads.move(id, 'stopped');
      }
    }
    expect(messagesOf(events)).toEqual([...MERGED, 'line 5', 'pending → stopped: test']);
    expect(events.at(-1)).toEqual({ kind: 'end', stage: 'stopped' });
  });

  test('a stream goes on after a cursor, and over connections that break in the middle', async () => {
    const id = await loggedWorkload();
    const { proxy, url, connections } = await breakingProxy();
    const broken = createKilnClient({ apiUrl: url, token: TOKEN });
    const events: LogEvent[] = [];
    for await (const event of broken.streamWorkloadLogs(id, { retryMs: 1 })) {
      events.push(event);
      if (events.length === MERGED.length) workloads.move(id, 'failed');
    }
    proxy.close();
    expect(connections()).toBeGreaterThan(1);
    const FAILED = 'pending → failed: test';
    expect(messagesOf(events)).toEqual([...MERGED, FAILED]);
    const third = events[2];
    const after = third?.kind === 'log' ? third.cursor : '';
    const rest: LogEvent[] = [];
    for await (const event of api.streamWorkloadLogs(id, { after })) rest.push(event);
    expect(messagesOf(rest)).toEqual([...MERGED.slice(3), FAILED]);
  });

  test('long lines of a host come in as many answers as it takes', async () => {
    const id = newId();
    await workloads.create({ servicePath: 'services/a' }, id);
    workloads.patch(id, { vm: { hostId: HOST_ID, epoch: 1, boot: 1, vmId: 'vm-1' } });
    spools.set(
      id,
      Array.from({ length: 300 }, (_, n) => line(n, 'x'.repeat(8_000))),
    );
    let seen = 0;
    let after: string | undefined;
    for (let more = true; more; ) {
      const page = await api.workloadLogs({ params: { id }, query: defined({ after }) });
      expect(page.incomplete).toBeUndefined();
      seen += page.entries.length;
      after = page.cursor;
      more = page.more;
    }
    expect(seen).toBe(300);
  });

  test('a page as large as a page may be says that there is more on the host', async () => {
    const id = newId();
    await workloads.create({ servicePath: 'services/a' }, id);
    workloads.patch(id, { vm: { hostId: HOST_ID, epoch: 1, boot: 1, vmId: 'vm-1' } });
    spools.set(
      id,
      Array.from({ length: 2_500 }, (_, n) => line(n)),
    );
    const seen: string[] = [];
    for (let query: { limit: number; after?: string } = { limit: 1000 }, more = true; more; ) {
      const page = await api.workloadLogs({ params: { id }, query });
      seen.push(...page.entries.map(({ message }) => message));
      query = { limit: 1000, after: page.cursor };
      ({ more } = page);
    }
    expect(seen).toEqual(Array.from({ length: 2_500 }, (_, n) => `line ${n}`));
  });

  test('of one stage or level only, as a page and as a stream, which go on from each other', async () => {
    const id = await loggedWorkload();
    spools.get(id)?.push({ ...line(5, 'bad'), level: 'error', stage: 'deploy' });
    const bad = await api.workloadLogs({ params: { id }, query: { level: 'warn' } });
    expect(bad.entries.map(({ message }) => message)).toEqual(['bad']);
    const built = await api.workloadLogs({ params: { id }, query: { stage: 'build', limit: 2 } });
    expect(built.entries.map(({ message }) => message)).toEqual(['line 0', 'line 1']);
    workloads.move(id, 'failed');
    const events: LogEvent[] = [];
    for await (const event of api.streamWorkloadLogs(id, { after: built.cursor, level: 'error' })) events.push(event);
    expect(messagesOf(events)).toEqual(['bad', 'pending → failed: test']);
    expect(events.at(-1)?.kind).toBe('end');
    for (const query of ['level=loud', 'stage=nowhere', 'level=']) {
      const reply = await fetch(`${base}/api/workloads/${id}/logs?${query}`, { headers: authorized });
      expect(reply.status).toBe(400);
    }
  });

  test('a reader that takes nothing is cut off', async () => {
    const id = newId();
    await workloads.create({ servicePath: 'services/a' }, id);
    workloads.patch(id, { vm: { hostId: HOST_ID, epoch: 1, boot: 1, vmId: 'vm-1' } });
    // Far more than the buffers on both ends can hold.
    spools.set(
      id,
      Array.from({ length: 4_000 }, (_, n) => line(n, 'x'.repeat(4_000))),
    );
    const { port } = new URL(base);
    const socket = connect(Number(port), '127.0.0.1');
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    socket.on('error', () => undefined);
    socket.write(`GET /api/workloads/${id}/logs/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n`);
    await once(socket, 'readable');
    await openStreams(0);
    // The bytes that were already sent arrive; then the connection is closed.
    socket.resume();
    await closed;
    expect(socket.bytesRead).toBeLessThan(16_000_000);
  });

  test('a stream ends when its reader leaves, which makes room for another', async () => {
    const id = await loggedWorkload();
    for (let reader = 0; reader < 5; reader++) {
      for await (const event of api.streamWorkloadLogs(id)) if (event.kind === 'log') break;
      // The gateway notices a moment later, at the latest when it has sent what it was just reading.
      await openStreams(0);
    }
    const readers = [0, 1].map(() => api.streamWorkloadLogs(id));
    await Promise.all(readers.map((reader) => reader.next()));
    await expect(
      fetch(`${base}/api/workloads/${id}/logs/stream`, { headers: authorized }).then(({ status }) => status),
    ).resolves.toBe(429);
    await Promise.all(readers.map((reader) => reader.return()));
  });
});

function messagesOf(events: readonly LogEvent[]): string[] {
  return events.flatMap((event) => (event.kind === 'log' ? [event.entry.message] : []));
}

/** Waits until exactly `count` log streams are open. */
async function openStreams(count: number): Promise<void> {
  const metrics = () => fetch(`${base}/metrics`, { headers: authorized }).then((reply) => reply.text());
  await expect.poll(metrics, { timeout: 20_000 }).toMatch(new RegExp(`^kiln_log_streams_open ${count}$`, 'm'));
}

/** A proxy that passes requests on to the gateway and breaks off every answer after two events. */
async function breakingProxy() {
  let connections = 0;
  const proxy = createServer(async (request, reply) => {
    connections += 1;
    const headers: Record<string, string> = { ...authorized };
    const last = request.headers['last-event-id'];
    if (typeof last === 'string') headers['last-event-id'] = last;
    const upstream = new AbortController();
    const answer = await fetch(`${base}${request.url ?? ''}`, { headers, signal: upstream.signal });
    reply.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? '' });
    let events = 0;
    const decoder = new TextDecoder();
    for await (const chunk of answer.body ?? []) {
      const parts = decoder.decode(chunk).split(/(?<=\n\n)/);
      for (const part of parts) {
        reply.write(part);
        if (part.includes('event: log')) events += 1;
        if (events === 2) break;
      }
      if (events === 2) break;
    }
    upstream.abort();
    setImmediate(() => (events === 2 ? reply.destroy() : reply.end()));
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  return { proxy, url: urlOf(proxy), connections: () => connections };
}
