/** When a stream of a log is over: readers that leave early, and lines that come late. */
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { authorized, type GatewayFixture, newId, startGateway, TOKEN } from '../support/gateway-fixture.ts';

let fixture: GatewayFixture;
let workloads: GatewayFixture['workloads'];
beforeAll(async () => {
  fixture = await startGateway();
  ({ workloads } = fixture);
});
afterAll(() => fixture.close());

describe('a stream of a log', () => {
  test('takes its place at once, and gives it back where its reader left before it began', async () => {
    const id = newId();
    await workloads.create({ servicePath: 'services/a' }, id);
    const { get } = workloads;
    const asked = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<void>();
    workloads.get = async (wanted) => {
      asked.resolve();
      await answer.promise;
      return get(wanted);
    };
    const left = new Promise<void>((resolve) => {
      fixture.server.once('request', (_request, response) => response.once('close', () => resolve()));
    });
    const socket = connect(Number(new URL(fixture.base).port), '127.0.0.1');
    socket.write(`GET /api/workloads/${id}/logs/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${TOKEN}\r\n\r\n`);
    await asked.promise;
    await openStreams(1);
    socket.destroy();
    await Promise.all([left, once(socket, 'close')]);
    answer.resolve();
    await openStreams(0);
    workloads.get = get;
  });
});

/** Waits until so many log streams are open. */
async function openStreams(count: number): Promise<void> {
  const metrics = () => fetch(`${fixture.base}/metrics`, { headers: authorized }).then((reply) => reply.text());
  await expect.poll(metrics).toMatch(new RegExp(`^kiln_log_streams_open ${count}$`, 'm'));
}
