/** The gateway as a server, on the real store and with a host's data plane; workloads themselves are a stand-in. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { connect } from 'node:net';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createKilnClient, type KilnClient } from '../../client/http/kiln-client.ts';
import type { LogEvent } from '../../client/http/log-events.ts';
import { problemSchema } from '../../contracts/problem.ts';
import type { NumberedLogEntry } from '../../domain/log-entry.ts';
import { storeKeys } from '../../domain/names.ts';
import { createGateway, type Gateway } from '../../gateway/gateway.ts';
import { hostLogsFetcher } from '../../gateway/host-logs.ts';
import { createDataPlane, type DataPlane } from '../../host/data-plane.ts';
import { createControlLog } from '../../store/control-log.ts';
import { writeHostEntry } from '../../store/host-directory.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { createFakeWorkloads } from '../support/fake-workloads.ts';
import { freshObjectStore } from '../support/object-store.ts';

const TOKEN = 'a-token-of-the-api-tests';
const HOST_TOKEN = 'a-token-of-the-host-tests';
const HOST_ID = 'host-1';
const AT = '2026-01-02T03:04:05.678Z';
const silent = { info: () => {}, warn: () => {}, error: () => {} };

/** What the host has not shipped, by workload. */
const spools = new Map<string, NumberedLogEntry[]>();
const workloads = createFakeWorkloads();
let store: ObjectStore;
let dataPlane: DataPlane;
let gateway: Gateway;
let api: KilnClient;
let base: string;
let hostUrl: string;
let polled = true;

beforeAll(async () => {
  store = await freshObjectStore();
  dataPlane = createDataPlane(
    {
      hostId: HOST_ID,
      bindAddress: '127.0.0.1',
      port: 0,
      urlHost: '127.0.0.1',
      token: HOST_TOKEN,
      logger: silent,
    },
    {
      metrics: new Registry(),
      logs: {
        epochs: async (id) => [...new Set((spools.get(id) ?? []).map(({ epoch }) => epoch))].sort(),
        read: async (id, epoch, after, limit) =>
          (spools.get(id) ?? []).filter((entry) => entry.epoch === epoch && entry.n > after).slice(0, limit),
      },
    },
  );
  hostUrl = await dataPlane.listen();
  await register(hostUrl);
  gateway = createGateway({
    workloads,
    store,
    isPolled: async () => polled,
    fetchHostLogs: hostLogsFetcher({ token: HOST_TOKEN, timeoutMs: 2_000, maxBytes: 1_000_000 }),
    token: TOKEN,
    log: silent,
    version: '0.0.0-test',
    temporalUrl: ({ executionId }) => `http://temporal.test/${executionId}`,
    limits: { streamPollMs: 20, maxLogStreams: 2, slowReaderMs: 100 },
  });
  base = await gateway.listen({ host: '127.0.0.1', port: 0 });
  api = createKilnClient({ apiUrl: base, token: TOKEN });
});
afterAll(async () => {
  await gateway.close();
  await dataPlane.close();
  store.close();
});

function register(url: string): Promise<void> {
  return writeHostEntry(store, {
    hostId: HOST_ID,
    url,
    at: new Date().toISOString(),
    capacity: { vcpus: 2, memMib: 2048 },
    free: { vcpus: 2, memMib: 2048 },
    load: 0,
    images: [],
    driver: 'fake',
    versions: {},
    draining: false,
  });
}

const newId = () => `t-${randomUUID().slice(0, 13)}`;
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

describe('workloads', () => {
  test('are created once and shown in the documented shape', async () => {
    const id = newId();
    const body = { id, servicePath: 'services/a', env: { A: '1' } };
    const first = await fetch(`${base}/api/workloads`, post(body));
    expect(first.status).toBe(201);
    expect((await fetch(`${base}/api/workloads`, post(body))).status).toBe(200);
    expect(workloads.requests.get(id)).toEqual({ servicePath: 'services/a', env: { A: '1' } });
    const view = await api.getWorkload({ params: { id } });
    expect(view).toMatchObject({
      id,
      stage: 'pending',
      image: 'node',
      logs: [],
      logsTruncated: false,
      transitions: [],
    });
    expect(view.links).toMatchObject({ self: `/api/workloads/${id}`, temporal: 'http://temporal.test/execution-1' });
    await expect(api.createWorkload({ body: { ...body, env: {} } })).rejects.toMatchObject({
      code: 'CONFLICT',
      details: { status: 409 },
    });
    expect((await api.listWorkloads({ query: { limit: 200 } })).items.map((item) => item.id)).toContain(id);
  });

  test('a stop without a body waits; one that may not wait answers 202 with the true state', async () => {
    const id = newId();
    await api.createWorkload({ body: { id, servicePath: 'services/a' } });
    const impatient = await fetch(`${base}/api/workloads/${id}/stop`, post({ waitMs: 0 }));
    expect([impatient.status, await impatient.json()]).toMatchObject([202, { stage: 'pending' }]);
    const patient = await fetch(`${base}/api/workloads/${id}/stop`, { method: 'POST', headers: authorized });
    expect([patient.status, await patient.json()]).toMatchObject([200, { stage: 'stopped' }]);
    expect(await api.workloadHistory({ params: { id } })).toMatchObject({ stages: ['pending', 'stopped'] });
    const typedEmpty = await fetch(`${base}/api/workloads/${id}/stop`, {
      method: 'POST',
      headers: { ...authorized, 'content-type': 'application/json' },
    });
    expect(typedEmpty.status).toBe(200);
  });
});

describe('logs', () => {
  test('of store and host come merged by time, each line once, in pages of any size', async () => {
    const id = await loggedWorkload();
    for (const limit of [1, 2, 3, 100]) {
      const messages: string[] = [];
      let after: string | undefined;
      for (let more = true; more; ) {
        const page = await api.workloadLogs({
          params: { id },
          query: { limit, ...(after === undefined ? {} : { after }) },
        });
        expect(page.entries.length).toBeLessThanOrEqual(limit);
        messages.push(...page.entries.map(({ message }) => message));
        after = page.cursor;
        more = page.more;
      }
      expect(messages).toEqual(MERGED);
      // The cursor stays good: what comes later follows it.
      spools.get(id)?.push(line(5));
      const later = await api.workloadLogs({ params: { id }, query: { ...(after === undefined ? {} : { after }) } });
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
    await register('http://127.0.0.1:1');
    const page = await api.workloadLogs({ params: { id } });
    await register(hostUrl);
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
    expect(messagesOf(events)).toEqual([...MERGED, 'line 5']);
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
    expect(messagesOf(events)).toEqual(MERGED);
    const third = events[2];
    const after = third?.kind === 'log' ? third.cursor : '';
    const rest: LogEvent[] = [];
    for await (const event of api.streamWorkloadLogs(id, { after })) rest.push(event);
    expect(messagesOf(rest)).toEqual(MERGED.slice(3));
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
      const page = await api.workloadLogs({ params: { id }, query: after === undefined ? {} : { after } });
      expect(page.incomplete).toBeUndefined();
      seen += page.entries.length;
      after = page.cursor;
      more = page.entries.length > 0;
    }
    expect(seen).toBe(300);
  });

  test('a reader that takes nothing is cut off', async () => {
    const id = newId();
    await workloads.create({ servicePath: 'services/a' }, id);
    workloads.patch(id, { vm: { hostId: HOST_ID, epoch: 1, boot: 1, vmId: 'vm-1' } });
    // Far more than the buffers of both ends hold.
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
    // What was on its way is there; then the connection is over.
    socket.resume();
    await closed;
    expect(socket.bytesRead).toBeLessThan(16_000_000);
  });

  test('a stream ends when its reader leaves, which makes room for another', async () => {
    const id = await loggedWorkload();
    for (let reader = 0; reader < 5; reader++) {
      for await (const event of api.streamWorkloadLogs(id)) if (event.kind === 'log') break;
    }
    const readers = [0, 1].map(() => api.streamWorkloadLogs(id));
    // The places of those who left are free again, one after the other.
    await expect
      .poll(() =>
        Promise.all(readers.map((reader) => reader.next())).then(
          () => 'both',
          () => 'full',
        ),
      )
      .toBe('both');
    await expect(
      fetch(`${base}/api/workloads/${id}/logs/stream`, { headers: authorized }).then(({ status }) => status),
    ).resolves.toBe(429);
    await Promise.all(readers.map((reader) => reader.return()));
  });
});

describe('records', () => {
  test('deployments are found or created, and paged by an opaque cursor', async () => {
    const projectId = newId();
    const make = (id: string) => ({ id, projectId, serviceName: 'shop', servicePath: 'services/a' });
    const ids = ['a', 'b', 'c'].map((name) => `${projectId}-${name}`);
    for (const id of ids) await api.createDeployment({ body: make(id) });
    const [first = ''] = ids;
    expect(await api.createDeployment({ body: make(first) })).toEqual(
      await api.getDeployment({ params: { id: first } }),
    );
    await expect(api.createDeployment({ body: { ...make(first), serviceName: 'other' } })).rejects.toMatchObject({
      code: 'CONFLICT',
    });
    await expect(api.getDeployment({ params: { id: 'none' } })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const found: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await api.listDeployments({ query: { limit: 2, ...(cursor === undefined ? {} : { cursor }) } });
      found.push(...page.items.map(({ id }) => id));
      cursor = page.next;
    } while (cursor !== undefined);
    expect(found).toEqual(ids);
    expect((await api.createDeployment({ body: { projectId, serviceName: 'x', servicePath: 'a' } })).id).toMatch(/^d-/);
  });

  test('hosts and images are listed', async () => {
    const image = { name: 'node', tag: 'latest', digest: `sha256:${'a'.repeat(64)}`, publishedAt: AT };
    await store.writeDocument(storeKeys.imageTag('node', 'latest'), image);
    expect((await api.listImages()).items).toEqual([image]);
    expect((await api.listHosts()).items).toMatchObject([{ hostId: HOST_ID, url: hostUrl }]);
  });

  test('ready is what could run a workload', async () => {
    expect(await api.readyz()).toMatchObject({ ready: true });
    polled = false;
    const unready = await fetch(`${base}/readyz`);
    polled = true;
    expect([unready.status, await unready.json()]).toMatchObject([503, { ready: false }]);
  });

  test('metrics count requests by route', async () => {
    await api.healthz();
    const text = await (await fetch(`${base}/metrics`, { headers: authorized })).text();
    expect(text).toContain('kiln_http_request_seconds_count{method="GET",route="/healthz",status="200"}');
    expect((await fetch(`${base}/metrics`)).status).toBe(401);
  });

  test('the documents are there without a token, and need nothing from elsewhere', async () => {
    const document = await (await fetch(`${base}/openapi.json`)).json();
    expect(document).toMatchObject({ openapi: '3.1.0' });
    const page = await fetch(`${base}/docs`);
    expect(page.headers.get('content-type')).toContain('text/html');
    const html = await page.text();
    expect(html).toContain('/api/workloads/{id}/stop');
    expect(html).not.toMatch(/(src|href)="(https?:)?\/\//);
  });
});

const authorized = { authorization: `Bearer ${TOKEN}` };
const json = { ...authorized, 'content-type': 'application/json' };
const post = (body: unknown) => ({ method: 'POST', headers: json, body: JSON.stringify(body) });
const badCreate = (body: unknown) => ['/api/workloads', post(body), 400, 'SPEC_INVALID'] as const;
const good = { servicePath: 'services/a' };
const many = Object.fromEntries(Array.from({ length: 101 }, (_, n) => [`V${n}`, '']));

describe('what is wrong is a problem document, never a 5xx', () => {
  test.each<readonly [string, RequestInit, number, string]>([
    ['/api/workloads', {}, 401, 'UNAUTHORIZED'],
    ['/api/workloads', { headers: { authorization: 'Bearer wrong' } }, 401, 'UNAUTHORIZED'],
    ['/api/workloads', { headers: { authorization: `Basic ${TOKEN}` } }, 401, 'UNAUTHORIZED'],
    ['/api/workloads', { headers: { authorization: `Bearer ${TOKEN}x` } }, 401, 'UNAUTHORIZED'],
    ['/nowhere', { headers: authorized }, 404, 'NOT_FOUND'],
    ['/api/workloads/', { headers: authorized }, 400, 'SPEC_INVALID'],
    ['/api/workloads/none', { headers: authorized }, 404, 'NOT_FOUND'],
    ['/api/workloads/none/stop', post({}), 404, 'NOT_FOUND'],
    ['/api/workloads/none/logs', { headers: authorized }, 404, 'NOT_FOUND'],
    ['/api/workloads/none/logs/stream', { headers: authorized }, 404, 'NOT_FOUND'],
    ['/api/workloads/none/history', { headers: authorized }, 404, 'NOT_FOUND'],
    ['/api/workloads', { method: 'DELETE', headers: authorized }, 405, 'UNSUPPORTED'],
    ['/api/hosts', post({}), 405, 'UNSUPPORTED'],
    [
      '/api/workloads',
      { method: 'POST', headers: { ...authorized, 'content-type': 'text/plain' }, body: '{}' },
      415,
      'UNSUPPORTED',
    ],
    ['/api/workloads', { method: 'POST', headers: json, body: '{"a":' }, 400, 'SPEC_INVALID'],
    ['/api/workloads', { method: 'POST', headers: json }, 400, 'SPEC_INVALID'],
    [
      '/api/workloads',
      { method: 'POST', headers: json, body: `{"servicePath":"${'a'.repeat(1024 * 1024)}"}` },
      413,
      'PAYLOAD_TOO_LARGE',
    ],
    [
      '/api/workloads',
      { method: 'POST', headers: json, body: '{"servicePath":"a","__proto__":{"x":1}}' },
      400,
      'SPEC_INVALID',
    ],
    badCreate(null),
    badCreate([]),
    badCreate('text'),
    badCreate({}),
    badCreate({ ...good, servicePath: '' }),
    badCreate({ ...good, servicePath: '../a' }),
    badCreate({ ...good, servicePath: 'a/../../b' }),
    badCreate({ ...good, servicePath: '/etc' }),
    badCreate({ ...good, servicePath: 'a\u0000b' }),
    badCreate({ ...good, servicePath: 'a'.repeat(513) }),
    badCreate({ ...good, id: 'Upper' }),
    badCreate({ ...good, id: 'a'.repeat(41) }),
    badCreate({ ...good, id: '' }),
    badCreate({ ...good, port: 80 }),
    badCreate({ ...good, port: 443 }),
    badCreate({ ...good, port: 0 }),
    badCreate({ ...good, port: 65_536 }),
    badCreate({ ...good, port: 8080.5 }),
    badCreate({ ...good, hostPort: '8080' }),
    badCreate({ ...good, env: { 'A=B': '1' } }),
    badCreate({ ...good, env: { A: 1 } }),
    badCreate({ ...good, env: { A: '\u0000' } }),
    badCreate({ ...good, env: { A: 'x'.repeat(33_000) } }),
    badCreate({ ...good, env: many }),
    badCreate({ ...good, image: 'Node' }),
    badCreate({ ...good, image: 'node@sha256:abc' }),
    badCreate({ ...good, resources: { vcpus: 0 } }),
    badCreate({ ...good, resources: { memMib: 1e9 } }),
    badCreate({ ...good, resources: { gpus: 1 } }),
    badCreate({ ...good, health: { path: 'no-slash' } }),
    badCreate({ ...good, replicas: 2 }),
    ['/api/workloads/BAD', { headers: authorized }, 400, 'SPEC_INVALID'],
    ['/api/workloads/%00', { headers: authorized }, 400, 'SPEC_INVALID'],
    ['/api/workloads/%E0%A4%A', { headers: authorized }, 400, 'SPEC_INVALID'],
    ['/api/workloads?limit=0', { headers: authorized }, 400, 'SPEC_INVALID'],
    ['/api/workloads?limit=201', { headers: authorized }, 400, 'SPEC_INVALID'],
    ['/api/workloads?limit=x', { headers: authorized }, 400, 'SPEC_INVALID'],
    ['/api/workloads?limit=1&limit=2', { headers: authorized }, 400, 'SPEC_INVALID'],
    ['/api/workloads?stage=done', { headers: authorized }, 400, 'SPEC_INVALID'],
    ["/api/workloads?projectId=a'%20OR%20'b", { headers: authorized }, 400, 'SPEC_INVALID'],
    ['/api/deployments?cursor=!!', { headers: authorized }, 400, 'SPEC_INVALID'],
    ['/api/deployments?cursor=bm9uc2Vuc2U', { headers: authorized }, 400, 'SPEC_INVALID'],
    ['/api/deployments', post({ projectId: 'p', serviceName: '', servicePath: 'a' }), 400, 'SPEC_INVALID'],
  ])('row %#: %s', async (path, init, status, code) => {
    const reply = await fetch(`${base}${path}`, init);
    expect(reply.status).toBe(status);
    expect(reply.headers.get('content-type')).toBe('application/problem+json');
    const found = problemSchema.parse(await reply.json());
    expect(found).toMatchObject({ status, code });
    if (status === 401) expect(reply.headers.get('www-authenticate')).toBe('Bearer');
    if (status === 405) expect(reply.headers.get('allow')).toMatch(/GET/);
  });

  test('each part that is wrong is named', async () => {
    const reply = await fetch(`${base}/api/workloads`, post({ servicePath: '/a', port: 80 }));
    const { errors } = problemSchema.parse(await reply.json());
    expect(errors?.map((error) => `${error.in} ${error.path}`).sort()).toEqual(['body port', 'body servicePath']);
  });

  test('a log cursor or last event id that is none is refused before the stream begins', async () => {
    const id = newId();
    await workloads.create(good, id);
    for (const headers of [{ 'last-event-id': 'e30x' }, { 'last-event-id': '{}' }]) {
      const reply = await fetch(`${base}/api/workloads/${id}/logs/stream`, { headers: { ...authorized, ...headers } });
      expect(reply.status).toBe(400);
    }
    expect((await fetch(`${base}/api/workloads/${id}/logs?after=bm9uc2Vuc2U`, { headers: authorized })).status).toBe(
      400,
    );
  });

  test('a gateway without a proper token does not come to be', () => {
    const start = () =>
      createGateway({
        workloads,
        store,
        isPolled: async () => true,
        fetchHostLogs: async () => undefined,
        token: 'short',
        log: silent,
        version: '0',
      });
    expect(start).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });
});

describe('the client', () => {
  test('says which API does not answer', async () => {
    const away = createKilnClient({ apiUrl: 'http://127.0.0.1:1', token: TOKEN });
    await expect(away.healthz()).rejects.toMatchObject({ code: 'API_UNAVAILABLE' });
  });

  test('gives up a stream of an API that is away, once it was patient enough', async () => {
    const away = createKilnClient({ apiUrl: 'http://127.0.0.1:1', token: TOKEN });
    const next = away.streamWorkloadLogs('any', { retryMs: 1, giveUpAfterMs: 0 }).next();
    await expect(next).rejects.toMatchObject({ code: 'API_UNAVAILABLE' });
  });

  test('tells an answer that is not of this API', async () => {
    const server = createServer(
      (_request, reply) => void reply.writeHead(200, { 'content-type': 'text/html' }).end('<html>'),
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const other = createKilnClient({ apiUrl: urlOf(server), token: TOKEN });
    await expect(other.listHosts()).rejects.toMatchObject({ code: 'INTERNAL' });
    await expect(
      createKilnClient({ apiUrl: urlOf(server), token: TOKEN, maxBytes: 3 }).listHosts(),
    ).rejects.toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
    server.close();
  });
});

function messagesOf(events: readonly LogEvent[]): string[] {
  return events.flatMap((event) => (event.kind === 'log' ? [event.entry.message] : []));
}

/** Waits until so many log streams are open. */
async function openStreams(count: number): Promise<void> {
  const metrics = () => fetch(`${base}/metrics`, { headers: authorized }).then((reply) => reply.text());
  await expect.poll(metrics, { timeout: 20_000 }).toMatch(new RegExp(`^kiln_log_streams_open ${count}$`, 'm'));
}

/** Passes requests on to the gateway and breaks every answer after two events. */
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

function urlOf(server: Server): string {
  const address = server.address();
  return `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
}
