/** Every bad request gets a problem document with its code, never a 5xx. */
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { problemSchema } from '../../contracts/api/problem.ts';
import { createGateway } from '../../gateway/gateway.ts';
import { hostLogsOverHttp } from '../../gateway/logs/host-logs.ts';
import {
  authorized,
  type GatewayFixture,
  json,
  newId,
  post,
  silent,
  startGateway,
  TOKEN,
} from '../support/gateway/gateway-fixture.ts';

let fixture: GatewayFixture;
let base: GatewayFixture['base'];
let store: GatewayFixture['store'];
let workloads: GatewayFixture['workloads'];
beforeAll(async () => {
  fixture = await startGateway();
  ({ base, store, workloads } = fixture);
});
afterAll(() => fixture.close());

const noHostLogs = hostLogsOverHttp({ token: 'of-no-host', timeoutMs: 1, maxBytes: 1 });
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
    ['/api/workloads', { method: 'DELETE', headers: authorized }, 405, 'METHOD_NOT_ALLOWED'],
    ['/api/hosts', post({}), 405, 'METHOD_NOT_ALLOWED'],
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
    badCreate({ ...good, resources: { diskMib: 63 } }),
    badCreate({ ...good, resources: { gpus: 1 } }),
    badCreate({ ...good, health: { path: 'no-slash' } }),
    badCreate({ ...good, replicas: 2 }),
    // A property name with a typing error must not be read as an empty body, which would drain the host.
    ['/api/hosts/host-1/drain', post({ drain: false }), 400, 'SPEC_INVALID'],
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

  const unfinished = (...headers: string[]) => [
    'POST /api/workloads HTTP/1.1',
    'host: a',
    'content-type: application/json',
    'content-length: 9',
    ...headers,
    '',
    '{',
  ];
  test.each([
    ['headers', 408, ['GET /healthz HTTP/1.1', 'host: a', '']],
    ['a body', 408, unfinished(`authorization: Bearer ${TOKEN}`)],
    ['a body that nobody waits for', 401, unfinished()],
  ])('%s without an end: a problem, and the end of the connection', async (_what, status, lines) => {
    const options = { workloads, store, isPolled: async () => true, hostLogs: noHostLogs };
    const limits = { requestMs: 200 };
    const gateway = createGateway({ ...options, token: TOKEN, log: silent, version: '0', limits });
    const { port } = new URL(await gateway.listen({ host: '127.0.0.1', port: 0 }));
    const socket = connect({ host: '127.0.0.1', port: Number(port) });
    socket.write(lines.join('\r\n'));
    let answer = '';
    for await (const chunk of socket) answer += String(chunk);
    await gateway.close();
    expect(answer.startsWith(`HTTP/1.1 ${status} `)).toBe(true);
    expect(problemSchema.parse(JSON.parse(answer.slice(answer.indexOf('{'))))).toMatchObject({ status });
  });

  test('a gateway without a proper token does not come to be', () => {
    const start = () =>
      createGateway({
        workloads,
        store,
        isPolled: async () => true,
        hostLogs: noHostLogs,
        token: 'short',
        log: silent,
        version: '0',
      });
    expect(start).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });
});
