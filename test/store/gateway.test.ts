/** The gateway as a server: workloads, records, its own routes, and the HTTP client. */

import { createServer } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createKilnClient } from '../../client/http/kiln-client.ts';
import { defined } from '../../domain/defined.ts';
import { storeKeys } from '../../domain/names.ts';
import { DEFAULT_POOL_SETTINGS } from '../../domain/pool/pool-policy.ts';
import {
  authorized,
  type GatewayFixture,
  HOST_ID,
  newId,
  post,
  startGateway,
  TOKEN,
  urlOf,
} from '../support/gateway/gateway-fixture.ts';

const AT = '2026-01-02T03:04:05.678Z';
let fixture: GatewayFixture;
let api: GatewayFixture['api'];
let base: GatewayFixture['base'];
let hostUrl: GatewayFixture['hostUrl'];
let store: GatewayFixture['store'];
let workloads: GatewayFixture['workloads'];
beforeAll(async () => {
  fixture = await startGateway();
  ({ api, base, hostUrl, store, workloads } = fixture);
});
afterAll(() => fixture.close());

describe('pools', () => {
  test('are shown as their hosts last told', async () => {
    expect((await api.listPools()).items).toEqual([]);
    const counters = { hits: 1, waits: 0, misses: 2, created: 3, failed: 0, recycled: { idle: 1 } };
    const told = { hostId: HOST_ID, at: AT, enabled: true, settings: DEFAULT_POOL_SETTINGS, counters, pools: [] };
    await store.writeDocument(storeKeys.pool(HOST_ID), told);
    expect((await api.listPools()).items).toEqual([told]);
    expect((await fetch(`${base}/api/pool`)).status).toBe(401);
  });
});

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
      const page = await api.listDeployments({ query: { limit: 2, ...defined({ cursor }) } });
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
    fixture.polled = false;
    const unready = await fetch(`${base}/readyz`);
    fixture.polled = true;
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
