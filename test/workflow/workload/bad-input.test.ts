/** Bad input from strangers to a real gateway: the answer names the fix, is no 5xx, never hangs, and leaves nothing. */

import { mkdtemp, rm } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createKilnClient, type KilnClient } from '../../../client/http/kiln-client.ts';
import { encodeCursor } from '../../../contracts/api/cursor.ts';
import { PROBLEM_TYPE, problemSchema } from '../../../contracts/api/problem.ts';
import { defined } from '../../../domain/defined.ts';
import type { OpenApiDocument } from '../../../gateway/openapi.ts';
import { type BadRequest, badRequests } from '../../support/gateway/bad-requests.ts';
import { type GatewayProcess, startGatewayProcess } from '../../support/gateway/gateway-process.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';

const TOKEN = 'a-token-of-the-bad-input-tests';
const AT_ONCE = 12;
const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
const authorized = { authorization: `Bearer ${TOKEN}` };
let kiln: Harness;
let gateway: GatewayProcess;
let api: KilnClient;
let home: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'kiln-bad-input-'));
  kiln = await startHarness();
  gateway = await startGatewayProcess({ namespace: kiln.namespace, bucket: kiln.store.bucket, token: TOKEN, home });
  api = createKilnClient({ apiUrl: gateway.url, token: TOKEN });
});
afterAll(async () => {
  agent.destroy();
  await gateway?.close();
  await kiln?.close();
  await rm(home, { recursive: true, force: true });
});

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

function send(bad: BadRequest, headers: Record<string, string> = authorized): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = request(gateway.url, {
      agent,
      method: bad.method,
      path: bad.path,
      signal: AbortSignal.timeout(20_000),
      headers: { ...headers, ...defined({ 'content-type': bad.contentType }) },
    });
    call.on('error', reject);
    call.on('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          type: response.headers['content-type'] ?? '',
          text: Buffer.concat(chunks).toString(),
        }),
      );
    });
    call.end(bad.body);
  });
}

/** @returns the fault of an answer to a bad request; undefined: the answer is right */
function complaint({ status, type, text }: Answer): string | undefined {
  if (status < 400 || status >= 500) return `answered ${status}: ${text.slice(0, 200)}`;
  if (type !== PROBLEM_TYPE) return `answered ${status} as ${type}: ${text.slice(0, 200)}`;
  const parsed = problemSchema.safeParse(JSON.parse(text));
  if (!parsed.success) return `no problem document: ${text.slice(0, 200)}`;
  const { code, detail, status: told } = parsed.data;
  if (told !== status) return `says ${told} and answers ${status}`;
  if (code === 'INTERNAL' || detail.length < 10) return `does not say what to do: ${code} ${detail}`;
  return undefined;
}

async function complaintsAbout(requests: readonly BadRequest[]): Promise<string[]> {
  const rest = [...requests];
  const found: string[] = [];
  const worker = async () => {
    for (let bad = rest.pop(); bad !== undefined; bad = rest.pop()) {
      const answer = await send(bad).then(complaint, (error: Error) => `no answer: ${error.message}`);
      if (answer !== undefined) found.push(`${bad.what} ${answer}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return found;
}

describe('bad input over the whole API', () => {
  it('every route, parameter and property in every wrong form is refused in the words of a problem document', async () => {
    const reply = await fetch(`${gateway.url}/openapi.json`);
    const document = (await reply.json()) as OpenApiDocument;
    const requests = badRequests(document);
    expect(requests.length).toBeGreaterThan(800);
    for (const path of Object.keys(document.paths)) {
      expect(
        requests.some(({ what }) => what.includes(` ${path}`)),
        path,
      ).toBe(true);
    }
    expect(await complaintsAbout(requests)).toEqual([]);
  });

  it('cursors that were forged, cut, or come from another list', async () => {
    await api.createDeployment({ body: { id: 'cursor-a', projectId: 'p', serviceName: 'a', servicePath: 'plain' } });
    await api.createDeployment({ body: { id: 'cursor-b', projectId: 'p', serviceName: 'b', servicePath: 'plain' } });
    const { next = '' } = await api.listDeployments({ query: { limit: 1 } });
    expect(next).not.toBe('');
    const log = encodeCursor({ '1-h1': 3 });
    const cursors = {
      '/api/workloads?cursor=': [
        next,
        log,
        encodeCursor({ page: 'AAAA' }),
        encodeCursor({ token: '////' }),
        encodeCursor([]),
        'AAAA',
      ],
      '/api/deployments?cursor=': [
        log,
        next.slice(0, -3),
        encodeCursor({ after: '../x' }),
        encodeCursor({ after: 1 }),
        encodeCursor(null),
      ],
      '/api/workloads/none/logs?after=': [
        next,
        encodeCursor({ '1-../x': 1 }),
        encodeCursor({ '1-h1': -1 }),
        encodeCursor({ '1-h1': 1e300 }),
      ],
    };
    const requests = Object.entries(cursors).flatMap(([path, values]) =>
      values.map((value) => ({ what: path + value, method: 'GET', path: path + value })),
    );
    expect(await complaintsAbout(requests)).toEqual([]);
  });

  it('tokens that are none', async () => {
    const wrong: (string | undefined)[] = [
      undefined,
      '',
      'Bearer',
      'Bearer ',
      `Bearer ${TOKEN} x`,
      `Bearer ${TOKEN}x`,
      `Basic ${TOKEN}`,
      TOKEN,
      `Bearer  `,
      `Bearer ${'x'.repeat(8000)}`,
      'Bearer \u00e4\u00f6\u00fc',
      `Bearer ${TOKEN.toUpperCase()}`,
      `Digest username="${TOKEN}"`,
    ];
    for (const value of wrong) {
      const bad = { what: 'token', method: 'GET', path: '/api/workloads' };
      expect(await send(bad, defined({ authorization: value })), value).toMatchObject({
        status: 401,
        type: PROBLEM_TYPE,
      });
    }
  });

  it('what a reader would take for the one thing and the gateway for another', async () => {
    const json = { method: 'POST', path: '/api/workloads', contentType: 'application/json' };
    const requests = [
      { ...json, what: 'a key twice, the second bad', body: '{"servicePath":"plain","servicePath":"../x"}' },
      { ...json, what: '__proto__ in env', body: '{"servicePath":"plain","env":{"__proto__":"1"}}' },
      {
        ...json,
        what: '__proto__ in resources',
        body: '{"servicePath":"plain","resources":{"__proto__":{"vcpus":1}}}',
      },
      { ...json, what: 'NUL in a value of env', body: '{"servicePath":"plain","env":{"A":"\\u0000"}}' },
      { ...json, what: 'half a pair', body: '{"servicePath":"\\ud800"}' },
      { ...json, what: 'a body of gzip', body: '\u001f\u008b\u0008' },
      { method: 'GET', path: '/api/workloads/none/logs/stream?after=e30x', what: 'a stream from nowhere' },
    ];
    expect(await complaintsAbout(requests)).toEqual([]);
    for (const encoding of ['gzip', 'br', 'deflate, gzip', 'x']) {
      const answer = await send(
        { ...json, what: encoding, body: '{}' },
        { ...authorized, 'content-encoding': encoding },
      );
      expect(answer.status, encoding).toBe(415);
      expect(complaint(answer)).toBeUndefined();
    }
  });
});

/** Writes bytes to a new connection. @returns the answers, once the gateway has closed it */
function raw(bytes: string): Promise<string> {
  const { hostname, port } = new URL(gateway.url);
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true });
    let text = '';
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      text += chunk;
    });
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(text));
    socket.on('end', () => socket.end());
    socket.write(bytes, 'latin1');
  });
}

const CLOSE = 'connection: close\r\n\r\n';
const head = (line: string, ...headers: string[]) =>
  [line, 'host: kiln', `authorization: Bearer ${TOKEN}`, ...headers, CLOSE].join('\r\n');

describe('what is hardly HTTP', () => {
  it.each<[string, string, number]>([
    ['noise', '\u0000\u0001\u0002\r\n\r\n', 400],
    ['TLS', '\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00fc\u0003\u0003', 400],
    ['a preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400],
    ['an unknown method', head('KILN /api/workloads HTTP/1.1'), 400],
    ['a version that is none', head('GET /api/workloads HTTP/9.9'), 400],
    ['no host', `GET /healthz HTTP/1.1\r\n${CLOSE}`, 400],
    ['two lengths', head('POST /api/workloads HTTP/1.1', 'content-length: 2', 'content-length: 3'), 400],
    ['a negative length', head('POST /api/workloads HTTP/1.1', 'content-length: -1'), 400],
    ['a length without end', head('POST /api/workloads HTTP/1.1', `content-length: ${'9'.repeat(40)}`), 400],
    [
      'a length of 1 TB',
      head('POST /api/workloads HTTP/1.1', 'content-type: application/json', 'content-length: 1000000000000'),
      413,
    ],
    [
      'length and chunks',
      `${head('POST /api/workloads HTTP/1.1', 'content-length: 2', 'transfer-encoding: chunked')}0\r\n\r\n`,
      400,
    ],
    [
      'chunks that are none',
      `${head('POST /api/workloads HTTP/1.1', 'content-type: application/json', 'transfer-encoding: chunked')}zz\r\n{}`,
      400,
    ],
    [
      'a chunk of 16 EB',
      `${head('POST /api/workloads HTTP/1.1', 'content-type: application/json', 'transfer-encoding: chunked')}fffffffffffffffff\r\n`,
      400,
    ],
    [
      'chunk extensions',
      `${head('POST /api/workloads HTTP/1.1', 'content-type: application/json', 'transfer-encoding: chunked')}1;${'x'.repeat(20_000)}\r\n{\r\n0\r\n\r\n`,
      413,
    ],
    ['headers of 100 KB', head('GET /api/workloads HTTP/1.1', `x: ${'y'.repeat(100_000)}`), 431],
    ['5000 headers', head('GET /api/workloads HTTP/1.1', ...Array.from({ length: 5000 }, (_, n) => `x${n}: 1`)), 431],
    ['a header without a name', head('GET /api/workloads HTTP/1.1', ': 1'), 400],
    ['a header with a line in it', head('GET /api/workloads HTTP/1.1', 'x: 1\u0000'), 400],
    ['an address of 50 KB', head(`GET /api/workloads/${'a'.repeat(50_000)} HTTP/1.1`), 431],
    ['an address with spaces', head('GET /api/work loads HTTP/1.1'), 400],
    ['ways up', head('GET /api/workloads/../../../etc/passwd HTTP/1.1'), 404],
    ['another authority', head('GET http://elsewhere.example/nowhere HTTP/1.1'), 404],
    ['an asterisk', head('OPTIONS * HTTP/1.1'), 404],
    ['a proxy', head('CONNECT elsewhere.example:443 HTTP/1.1'), 405],
    ['an expectation', head('POST /api/workloads HTTP/1.1', 'expect: the-unexpected', 'content-length: 0'), 417],
    [
      'a wish for another protocol',
      head('GET /nowhere HTTP/1.1', 'upgrade: websocket', 'sec-websocket-key: x').replace(
        'connection: close',
        'connection: upgrade, close',
      ),
      404,
    ],
  ])('%s', async (_what, bytes, status) => {
    const answer = await raw(bytes);
    expect(answer.split('\r\n')[0]).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
    expect(answer).toContain(`content-type: ${PROBLEM_TYPE}`);
    expect(complaint({ status, type: PROBLEM_TYPE, text: answer.slice(answer.indexOf('{')) })).toBeUndefined();
  });

  it('requests in one piece are answered in their order', async () => {
    const get = (path: string) => `GET ${path} HTTP/1.1\r\nhost: kiln\r\nauthorization: Bearer ${TOKEN}\r\n`;
    const answer = await raw(`${get('/nowhere')}\r\n${get('/healthz')}\r\n${get('/api/workloads/BAD')}${CLOSE}`);
    expect([...answer.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual(['404', '200', '400']);
  });

  it('a HEAD is answered without a body', async () => {
    for (const [path, status] of [
      ['/api/workloads', 200],
      ['/api/workloads/none', 404],
      ['/nowhere', 404],
    ] as const) {
      expect(await send({ what: 'HEAD', method: 'HEAD', path })).toMatchObject({ status, text: '' });
    }
  });
});

describe('after all of it', () => {
  it('the gateway has logged no error, nothing was created, and a good request works', async () => {
    expect(gateway.errors).toEqual([]);
    expect(gateway.child.exitCode).toBeNull();
    expect((await api.listWorkloads()).items).toEqual([]);
    const keys: string[] = [];
    for await (const { key } of kiln.store.listAll('workloads/')) keys.push(key);
    expect(keys).toEqual([]);
    await api.createWorkload({ body: { id: 'good', servicePath: 'plain' } });
    await kiln.untilStage('good', 'running');
    expect(await api.stopWorkload({ params: { id: 'good' } })).toMatchObject({ stage: 'stopped' });
    expect(await kiln.left()).toEqual([]);
  });
});
