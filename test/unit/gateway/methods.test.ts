/** Every method that Node's parser knows, on every path of the table: the route answers, or 405 and `Allow`. */
import { METHODS, request } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { PROBLEM_TYPE, problemSchema } from '../../../contracts/api/problem.ts';
import { answersHead, PATH_PARAMETER, type Route } from '../../../contracts/api/routes/route.ts';
import { ROUTES } from '../../../contracts/api/routes/route-table.ts';
import { createHttpServer } from '../../../gateway/http-server.ts';
import { errorHandler } from '../../../gateway/problem-replies.ts';
import { bindRoutes, type RouteHandlers } from '../../../gateway/route-binding.ts';
import { silentLogger } from '../../support/workers/silent-logger.ts';

const server = createHttpServer({ bodyBytes: 1_000, requestMs: 10_000, uploadMs: 10_000 });
const routes = Object.entries<Route>(ROUTES);
let port: number;

beforeAll(async () => {
  const handler = async () => {
    throw new Error('no test calls a handler');
  };
  const handlers = Object.fromEntries(routes.map(([name]) => [name, handler]));
  server.setErrorHandler(errorHandler(silentLogger));
  bindRoutes(server, z.custom<RouteHandlers>().parse(handlers), () => true);
  await server.listen({ host: '127.0.0.1', port: 0 });
  const address = server.server.address();
  port = typeof address === 'object' && address !== null ? address.port : 0;
});
afterAll(() => server.close());

interface Answer {
  readonly status: number;
  readonly allow: string | undefined;
  readonly code: string | undefined;
}

function ask(method: string, path: string, given: Record<string, string> = {}, body = ''): Promise<Answer> {
  // Node adds this header only for some methods.
  const headers = { ...given, ...(body === '' ? {} : { 'content-length': String(Buffer.byteLength(body)) }) };
  return new Promise((resolve, reject) => {
    const call = request({ port, host: '127.0.0.1', method, path, headers, agent: false }, async (response) => {
      const said = await text(response);
      const isProblem = response.headers['content-type'] === PROBLEM_TYPE && said !== '';
      const code = isProblem ? problemSchema.parse(JSON.parse(said)).code : undefined;
      resolve({ status: response.statusCode ?? 0, allow: response.headers.allow, code });
    });
    call.once('error', reject);
    call.end(body);
  });
}

const paths = [...new Set(routes.map(([, { path }]) => path))];
const answered = (path: string) =>
  routes
    .filter(([, route]) => route.path === path)
    .flatMap(([, route]) => (answersHead(route) ? ['GET', 'HEAD'] : [route.method]))
    .sort();
// CONNECT has no path; its test is below.
const others = (path: string) => METHODS.filter((method) => !answered(path).includes(method) && method !== 'CONNECT');

describe('a method that no route of a path has', () => {
  it.each(paths)('%s', async (path) => {
    const real = path.replaceAll(PATH_PARAMETER, 'a');
    const expected = { status: 405, allow: answered(path).join(', '), code: 'METHOD_NOT_ALLOWED' };
    for (const method of others(path)) {
      const found = method === 'HEAD' ? { ...expected, code: undefined } : expected;
      expect({ method, ...(await ask(method, real)) }).toEqual({ method, ...found });
    }
  });

  it.each([
    ['a type that nobody reads', { 'content-type': 'text/plain' }, 'text'],
    ['no JSON', { 'content-type': 'application/json' }, '{'],
    ['an encoding that nobody reads', { 'content-type': 'application/json', 'content-encoding': 'br' }, 'x'],
    ['more than may be sent', { 'content-type': 'application/json' }, JSON.stringify('a'.repeat(2_000))],
  ])('is refused whatever its body: %s', async (_what, headers, body) => {
    for (const method of ['PUT', 'QUERY', 'DELETE', 'PATCH']) {
      expect(await ask(method, '/api/workloads/a/stop', headers, body)).toMatchObject({ status: 405, allow: 'POST' });
      expect(await ask(method, '/api/nothing', headers, body)).toMatchObject({ status: 404, code: 'NOT_FOUND' });
    }
  });

  it('is refused on a path that is written otherwise, too', async () => {
    for (const path of ['/api/%77orkloads', '/api/workloads?x=1', 'http://elsewhere.example/api/workloads']) {
      expect(await ask('DELETE', path)).toMatchObject({ status: 405, allow: 'GET, HEAD, POST' });
    }
  });
});

it('an unknown path is 404 for every method', async () => {
  for (const method of METHODS.filter((name) => name !== 'CONNECT')) {
    expect({ method, ...(await ask(method, '/api/nothing')) }).toMatchObject({ method, status: 404, allow: undefined });
  }
});

it('CONNECT is 405 and says what is answered', async () => {
  const socket = connect(port, '127.0.0.1');
  socket.end('CONNECT elsewhere.example:443 HTTP/1.1\r\nhost: elsewhere.example\r\n\r\n');
  const said = await text(socket);
  expect(said).toMatch(/^HTTP\/1\.1 405 Method Not Allowed\r\n(.+\r\n)*allow: GET, HEAD, POST\r\n/);
  expect(said).toContain('"METHOD_NOT_ALLOWED"');
});
