/** The whole life of a workload as seen over REST: gateway, HTTP client, both workers, the fake driver. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createKilnClient, type KilnClient } from '../../../client/http/kiln-client.ts';
import type { LogEvent } from '../../../client/http/log-events.ts';
import { createTaskQueueProbe } from '../../../client/temporal/task-queue-pollers.ts';
import { createGateway, type Gateway } from '../../../gateway/gateway.ts';
import { vmUsageFetcher } from '../../../gateway/hosts/host-usage.ts';
import { hostLogsOverHttp } from '../../../gateway/logs/host-logs.ts';
import { repeatingApi } from '../../support/gateway/repeating-api.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';

const TOKEN = 'a-token-of-the-rest-tests';
let kiln: Harness;
let gateway: Gateway;
let api: KilnClient;

beforeAll(async () => {
  kiln = await startHarness();
  gateway = createGateway({
    workloads: kiln.workloads,
    store: kiln.store,
    isPolled: createTaskQueueProbe({ client: kiln.temporal }),
    hostLogs: hostLogsOverHttp({ token: 'a-token-for-tests', timeoutMs: 3_000, maxBytes: 16_000_000 }),
    fetchVmUsage: vmUsageFetcher({ token: 'a-token-for-tests', timeoutMs: 3_000 }),
    token: TOKEN,
    log: { info: () => undefined, warn: () => undefined, error: console.error },
    version: '0',
    limits: { streamPollMs: 50 },
  });
  api = repeatingApi(createKilnClient({ apiUrl: await gateway.listen({ host: '127.0.0.1', port: 0 }), token: TOKEN }));
});
afterAll(async () => {
  await gateway.close();
  await kiln.close();
});

describe('a workload over REST', () => {
  it('is created, streamed, found running, stopped; history and log tell all of it', async () => {
    await expect.poll(async () => (await api.readyz()).ready, { timeout: 20_000 }).toBe(true);
    const id = 'rest-1';
    const created = await api.createWorkload({ body: { id, servicePath: 'plain' } });
    expect(['pending', 'validate']).toContain(created.stage);
    const events: LogEvent[] = [];
    const stream = (async () => {
      for await (const event of api.streamWorkloadLogs(id)) events.push(event);
    })();
    await expect
      .poll(async () => (await api.getWorkload({ params: { id } })).stage, { timeout: 40_000 })
      .toBe('running');
    const running = await api.getWorkload({ params: { id } });
    expect(running.usage).toMatchObject({ source: 'process', memoryBytes: expect.any(Number) });
    expect(running).toMatchObject({ hostId: 'h1', url: expect.stringContaining('http://'), port: expect.any(Number) });
    expect((await fetch(running.url ?? '')).ok).toBe(true);
    const listed = async () => (await api.listWorkloads({ query: { stage: 'running' } })).items.map((item) => item.id);
    await expect.poll(listed).toEqual([id]);

    const stopped = await api.stopWorkload({ params: { id } });
    expect(stopped).toMatchObject({ stage: 'stopped', unreleased: [], notes: [] });
    expect(stopped.usage).toBeUndefined();
    expect(stopped.durationMs).toBeGreaterThan(0);
    await stream;
    expect(events.at(-1)).toEqual({ kind: 'end', stage: 'stopped' });

    const history = await api.workloadHistory({ params: { id } });
    const stages = ['pending', 'validate', 'build', 'deploy', 'running', 'stopped'];
    expect(history).toMatchObject({ source: 'temporal', stages });
    expect(history.events).toBeLessThan(100);
    expect(history.moves).toEqual(
      stopped.transitions.map((move, index) => ({ ...move, at: history.moves[index]?.at })),
    );

    const { entries } = await api.workloadLogs({ params: { id }, query: { limit: 1000 } });
    const streamed = events.flatMap((event) => (event.kind === 'log' ? [event.entry] : []));
    const line = ({ timestamp, message }: { timestamp: string; message: string }) => `${timestamp} ${message}`;
    expect(streamed.map(line).sort()).toEqual(entries.map(line).sort());
    expect(new Set(entries.map(({ stage }) => stage))).toContain('build');
    expect(await kiln.left([running.port ?? 0])).toEqual([]);
  });

  it('20 creates at once make one; all answer alike but for stage and times; another body is refused', async () => {
    const body = { id: 'rest-20', servicePath: 'plain', env: { A: '1' } };
    const views = await Promise.all(Array.from({ length: 20 }, () => api.createWorkload({ body })));
    const alike = views.map(({ id, servicePath, image, createdAt }) =>
      JSON.stringify({ id, servicePath, image: image.split('@')[0], createdAt }),
    );
    expect(new Set(alike).size).toBe(1);
    await expect(api.createWorkload({ body: { ...body, env: { A: '2' } } })).rejects.toMatchObject({
      code: 'CONFLICT',
    });
    const stopped = await api.stopWorkload({ params: { id: body.id } });
    expect(stopped.stage).toBe('stopped');
    expect((await api.createWorkload({ body })).stage).toBe('stopped');
  });

  it('a failure is told with stage, code and the end of the log', async () => {
    const id = 'rest-fails';
    await api.createWorkload({ body: { id, servicePath: 'build-fails' } });
    await expect
      .poll(async () => (await api.getWorkload({ params: { id } })).stage, { timeout: 40_000 })
      .toBe('failed');
    const failed = await api.getWorkload({ params: { id } });
    expect(failed).toMatchObject({ failedStage: 'build', code: 'BUILD_FAILED', error: expect.any(String) });
    expect(failed.logs.length).toBeGreaterThan(0);
  });
});
