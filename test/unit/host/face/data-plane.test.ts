import { Gauge, Registry } from 'prom-client';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { hostFollowReplySchema, hostLogsReplySchema } from '../../../../contracts/host/data-plane.ts';
import type { NumberedLogEntry } from '../../../../domain/logs/log-entry.ts';
import type { LogRef, OwnerId } from '../../../../domain/owner.ts';
import { createDataPlane, type DataPlane } from '../../../../host/face/data-plane.ts';
import { createLogFollows, type LogFollows } from '../../../../host/logs/log-follows.ts';
import { silentLogger } from '../../../support/workers/silent-logger.ts';

const workload = (id: string) => ({ kind: 'workload', id }) as const;

const TOKEN = 'a-token-of-this-stack';
const line: NumberedLogEntry = {
  timestamp: '2026-01-01T00:00:00.000Z',
  stage: 'running',
  message: 'd',
  level: 'info',
  epoch: 3,
  writer: 'h1',
  n: 3,
};
const entries: NumberedLogEntry[] = ['a', 'b', 'c'].map((message, n) => ({ ...line, message, n }));
const options = {
  hostId: 'h1',
  bindAddress: '127.0.0.1',
  port: 0,
  urlHost: '127.0.0.1',
  token: TOKEN,
  logger: silentLogger,
};
let plane: DataPlane;
let url: string;
let follows: LogFollows;

const NO_RUNS = { followOutput: async () => ({ pieces: [], isLast: true }) };

beforeEach(async () => {
  const metrics = new Registry();
  new Gauge({ name: 'kiln_test', help: 'A test.', registers: [metrics] }).set(7);
  const logs = {
    epochs: async ({ id }: OwnerId) => (id === 'w1' ? [1, 3] : []),
    read: async ({ epoch }: LogRef, after: number, limit: number) =>
      epoch === 3 ? entries.filter(({ n }) => n > after).slice(0, limit) : [],
  };
  follows = createLogFollows({ ...logs, max: 2, maxHoldMs: 60_000 });
  const usage = async (vmId: string) =>
    vmId === 'a-1-1' ? ({ source: 'cgroup', cpuMs: 5, memoryBytes: 7 } as const) : undefined;
  plane = createDataPlane(options, { logs: Object.assign(follows, logs), metrics, usage, runs: NO_RUNS });
  url = await plane.listen();
});
afterEach(() => plane.close());

const get = (path: string, token = TOKEN, signal = new AbortController().signal) =>
  fetch(`${url}${path}`, { headers: token === '' ? {} : { authorization: `Bearer ${token}` }, signal });

describe('data plane', () => {
  it('lets nobody in without the token, but for the health page', async () => {
    for (const token of ['', 'wrong', `${TOKEN}x`, TOKEN.slice(1)]) {
      for (const path of ['/metrics', '/v1/workloads/w1/logs', '/nowhere']) {
        const reply = await get(path, token);
        expect([reply.status, await reply.json()]).toMatchObject([401, { code: 'UNAUTHORIZED' }]);
      }
    }
    expect(await (await get('/healthz', '')).json()).toEqual({ status: 'ok', hostId: 'h1' });
  });

  it('gives the newest epoch, as the contract has it', async () => {
    const reply = hostLogsReplySchema.parse(await (await get('/v1/workloads/w1/logs')).json());
    expect(reply).toEqual({ entries, writer: 'h1', epoch: 3 });
  });

  it('gives what was asked for', async () => {
    const reply = await (await get('/v1/workloads/w1/logs?epoch=3&after=0&limit=1')).json();
    expect(reply).toMatchObject({ entries: [{ n: 1 }] });
    expect(await (await get('/v1/workloads/w1/logs?epoch=1')).json()).toMatchObject({ entries: [], epoch: 1 });
  });

  it.each([
    ['/v1/workloads/w2/logs', 404],
    ['/v1/workloads/w1/logs?epoch=2', 404],
    ['/v1/workloads/W%20/logs', 400],
    ['/v1/workloads/..%2Fx/logs', 400],
    ['/v1/workloads/w1/logs?limit=0', 400],
    ['/v1/workloads/w1/logs?limit=9999999', 400],
    ['/v1/workloads/w1/logs?after=x', 400],
    ['/v1/workloads/w1/logs/follow', 400],
    ['/v1/workloads/w1/logs/follow?waitMs=60001', 400],
    ['/v1/workloads/w1/logs/follow?waitMs=1&mark=A%20b', 400],
    ['/v1/workloads/W%20/logs/follow?waitMs=1', 400],
    ['/v1/workloads/w2/logs/follow?waitMs=60000', 200],
    ['/nowhere', 404],
  ])('%s: %i', async (path, status) => {
    expect((await get(path)).status).toBe(status);
  });

  it('holds whoever waits for the next line, until there is one', async () => {
    follows.attend(workload('w1'));
    const path = '/v1/workloads/w1/logs/follow?epoch=3&waitMs=60000';
    const first = hostFollowReplySchema.parse(await (await get(`${path}&after=0&limit=1`)).json());
    expect(first).toEqual({ entries: entries.slice(1, 2), writer: 'h1', epoch: 3, mark: expect.any(String) });
    const waiting = get(`${path}&after=2&mark=${first.mark ?? ''}`);
    await expect.poll(() => follows.held).toBe(1);
    entries.push({ ...line, n: 3 });
    follows.wake(workload('w1'));
    expect(await (await waiting).json()).toEqual({ ...first, entries: [{ ...line, n: 3 }] });
    entries.pop();
  });

  it('forgets whoever leaves while he waits, and takes no more than it may', async () => {
    follows.attend(workload('w1'));
    const { mark } = hostFollowReplySchema.parse(
      await (await get('/v1/workloads/w1/logs/follow?after=2&waitMs=0')).json(),
    );
    const path = `/v1/workloads/w1/logs/follow?after=2&waitMs=60000&mark=${mark ?? ''}`;
    const gone = new AbortController();
    const left = get(path, TOKEN, gone.signal);
    const stays = get(path);
    await expect.poll(() => follows.held).toBe(2);
    expect((await get(path)).status).toBe(429);
    gone.abort();
    await expect(left).rejects.toThrow();
    await expect.poll(() => follows.held).toBe(1);
    follows.end();
    expect(await (await stays).json()).toEqual({ entries: [], writer: 'h1', epoch: 3 });
  });

  it('shows metrics', async () => {
    expect(await (await get('/metrics')).text()).toContain('kiln_test 7');
  });

  it('tells what a VM uses, of a VM that runs here', async () => {
    expect(await (await get('/v1/vms/a-1-1/usage')).json()).toEqual({ source: 'cgroup', cpuMs: 5, memoryBytes: 7 });
    expect((await get('/v1/vms/b-1-1/usage')).status).toBe(404);
    expect((await get('/v1/vms/..%2f..%2fetc/usage')).status).toBe(404);
  });

  it('a short token is no token, a taken port is told', async () => {
    const sources = {
      logs: { epochs: async () => [], read: async () => [], follow: async () => ({ entries: [] }) },
      metrics: new Registry(),
      usage: async () => undefined,
      runs: NO_RUNS,
    };
    expect(() => createDataPlane({ ...options, token: 'short' }, sources)).toThrow(
      expect.objectContaining({ code: 'CONFIG_INVALID' }),
    );
    const second = createDataPlane({ ...options, port: Number(new URL(url).port) }, sources);
    await expect(second.listen()).rejects.toMatchObject({ code: 'PORT_IN_USE' });
    await second.close();
  });
});
