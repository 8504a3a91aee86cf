/** The metrics of a whole Kiln: all of them are documented, all documented ones exist, and their values are right. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTaskQueueProbe } from '../../../client/temporal/task-queue-pollers.ts';
import { createOpenWorkloadCount } from '../../../client/temporal/workloads/open-workloads.ts';
import { hostEntrySchema } from '../../../contracts/store/host-entry.ts';
import { createGateway, type Gateway } from '../../../gateway/gateway.ts';
import { hostLogsOverHttp } from '../../../gateway/logs/host-logs.ts';
import { serveMetrics } from '../../../workers/metrics-endpoint.ts';
import { isWatched } from '../../support/servers/is-watched.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { silentLogger } from '../../support/workers/silent-logger.ts';

const DOCUMENT = fileURLToPath(new URL('../../../docs/metrics.md', import.meta.url));
const TOKEN = 'a-token-of-the-metrics-tests';
const HOST_TOKEN = 'a-token-for-tests';
/** Metrics that prom-client collects in every Node process. */
const OF_THE_PROCESS = /^kiln_(gateway|control|host)_(process|nodejs)_/;

type Process = 'gateway' | 'control' | 'host';
let kiln: Harness;
let gateway: Gateway;
let control: Awaited<ReturnType<typeof serveMetrics>>;
let apiUrl: string;

beforeAll(async () => {
  kiln = await startHarness();
  gateway = createGateway({
    workloads: kiln.workloads,
    store: kiln.store,
    isPolled: createTaskQueueProbe({ client: kiln.temporal }),
    openWorkloads: createOpenWorkloadCount({ client: kiln.temporal, agesS: [0, 3600] }),
    hostLogs: hostLogsOverHttp({ token: HOST_TOKEN, timeoutMs: 3_000, maxBytes: 16_000_000 }),
    token: TOKEN,
    log: silentLogger,
    version: '0',
    limits: { countsKeptMs: 0 },
  });
  apiUrl = await gateway.listen({ host: '127.0.0.1', port: 0 });
  control = await serveMetrics(kiln.controlMetrics.registry, { host: '127.0.0.1', port: 0, token: HOST_TOKEN });
});
afterAll(async () => {
  await control.close();
  await gateway.close();
  await kiln.close();
});

async function scrape(process: Process): Promise<string> {
  const host = await kiln.store.readDocument('hosts/h1.json', hostEntrySchema);
  const base = { gateway: apiUrl, control: control.url, host: host?.value.url ?? '' }[process];
  const token = process === 'gateway' ? TOKEN : HOST_TOKEN;
  expect((await fetch(`${base}/metrics`)).status).toBe(401);
  const reply = await fetch(`${base}/metrics`, { headers: { authorization: `Bearer ${token}` } });
  expect([reply.status, reply.headers.get('content-type')]).toEqual([200, expect.stringContaining('text/plain')]);
  return reply.text();
}

/** `name kind` of each metric, without those of the process. */
function exported(text: string): string[] {
  const kinds = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', kind = '']) => `${name} ${kind}`);
  return kinds.filter((name) => !OF_THE_PROCESS.test(name)).sort();
}

/** @returns the value of the sample with this name and these labels, in any order; 0 where there is none */
function value(text: string, name: string, labels: Readonly<Record<string, string>> = {}): number {
  const wanted = Object.entries(labels).map(([label, text]) => `${label}="${text}"`);
  const lines = text.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `));
  const found = lines.filter((line) => wanted.every((label) => line.includes(label)));
  return found.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

describe('metrics', () => {
  it('follow a workload through its life', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'measured');
    await kiln.untilStage('measured', 'running');
    await expect.poll(() => isWatched(kiln.temporal, 'measured')).toBe(true);
    const usage = await scrape('host');
    expect(value(usage, 'kiln_host_workload_memory_bytes', { workload: 'measured' })).toBeGreaterThan(0);
    expect(value(usage, 'kiln_host_workload_cpu_seconds', { workload: 'measured' })).toBeGreaterThan(0);
    expect(value(usage, 'kiln_host_workload_vm_cpu_seconds', { workload: 'measured' })).toBeGreaterThanOrEqual(0);
    expect(
      value(usage, 'kiln_host_workload_vm_memory_bytes', { workload: 'measured', kind: 'current' }),
    ).toBeGreaterThan(0);
    expect(value(usage, 'kiln_host_real_memory_bytes', { kind: 'available' })).toBeGreaterThan(0);
    expect(value(usage, 'kiln_host_build_seconds_count', { result: 'built' })).toBe(1);
    expect(value(usage, 'kiln_host_boot_seconds_count')).toBeGreaterThan(0);
    for (const kind of ['record', 'process', 'directory', 'port', 'reservation']) {
      expect(value(usage, 'kiln_host_resources', { kind }), kind).toBe(1);
    }
    expect(value(usage, 'kiln_host_vms', { role: 'service', attached: 'true' })).toBe(1);
    expect(value(usage, 'kiln_activities_running', { activity: 'superviseVm' })).toBe(1);
    await expect
      .poll(async () => value(await scrape('gateway'), 'kiln_workloads_open', { stage: 'running', older_than_s: '0' }))
      .toBe(1);
    await kiln.workloads.stop('measured', { waitMs: 20_000 });
    const after = await scrape('host');
    expect(value(after, 'kiln_host_resources')).toBe(0);
    expect(after).not.toContain('workload="measured"');
    const books = await scrape('control');
    expect(value(books, 'kiln_workload_ends_total', { outcome: 'stopped', stage: 'running', code: '' })).toBe(1);
    expect(value(books, 'kiln_workload_stage_seconds_count', { stage: 'build', result: 'passed' })).toBe(1);
    expect(value(books, 'kiln_workload_stage_seconds_count', { stage: 'running', result: 'stopped' })).toBe(1);
    expect(value(books, 'kiln_dispatch_seconds_count')).toBe(1);
    expect(value(books, 'kiln_activity_seconds_count', { activity: 'closeBooks', result: 'ok' })).toBe(1);
  });

  it('tell a failure by code and stage', async () => {
    await kiln.workloads.create({ servicePath: 'build-fails' }, 'unmeasured');
    await kiln.untilStage('unmeasured', 'failed');
    await kiln.temporal.workflow
      .getHandle('workload/unmeasured')
      .result()
      .catch(() => undefined);
    const books = await scrape('control');
    expect(value(books, 'kiln_workload_ends_total', { code: 'BUILD_FAILED', stage: 'build' })).toBe(1);
    expect(value(books, 'kiln_workload_stage_seconds_count', { stage: 'build', result: 'failed' })).toBe(1);
    const host = await scrape('host');
    expect(value(host, 'kiln_host_build_seconds_count', { result: 'failed' })).toBe(1);
    expect(value(host, 'kiln_activity_seconds_count', { activity: 'buildService', result: 'BUILD_FAILED' })).toBe(1);
  });

  it.each<Process>(['gateway', 'control', 'host'])(
    'of the %s are documented, and those that are documented exist',
    async (process) => {
      const sections = (await readFile(DOCUMENT, 'utf8')).split(/^## /m);
      const section = sections.find((text) => text.startsWith(process)) ?? '';
      const documented = [...section.matchAll(/^\| `(kiln_\w+)` \| (\w+) \|/gm)].map(
        ([, name, kind]) => `${name} ${kind}`,
      );
      expect(exported(await scrape(process))).toEqual(documented.sort());
    },
  );
});
