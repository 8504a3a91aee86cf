/** Ends of every kind, and which addresses a guest can reach, in real guests of the image that set-up built. */
import { randomUUID } from 'node:crypto';
import { networkInterfaces } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { z } from 'zod';
import { workloadRef } from '../../domain/owner.ts';
import type { WorkloadRequest } from '../../domain/workload/workload.ts';
import { listLogWriters, readLogEntries } from '../../store/logs/log-chunks.ts';
import { realRegistries } from '../support/workers/harness-workers.ts';
import { type Harness, startHarness } from '../support/workers/kiln-harness.ts';

const STOP = { waitMs: 60_000 };
const QUICK = { intervalMs: 500, timeoutMs: 2_000, failures: 2, startPeriodMs: 6_000 };
const outcomeSchema = z.looseObject({ ok: z.boolean() });

const FAILURES: [name: string, request: WorkloadRequest, stage: string, code: string, stack?: string][] = [
  ['build-fails', { servicePath: 'build-fails' }, 'build', 'BUILD_FAILED', 'error TS2304'],
  ['exits', { servicePath: 'exits' }, 'deploy', 'SERVICE_EXITED', 'exits: cannot go on'],
  ['never-listens', { servicePath: 'never-listens', health: QUICK }, 'deploy', 'HEALTH_FAILED'],
];

describe('in real guests', () => {
  let kiln: Harness;
  beforeAll(async () => {
    // Policies of production instead of the short timings for the fake driver.
    kiln = await startHarness({
      guests: 'qemu',
      policies: { placement: {}, host: {}, supervise: {}, leave: {} },
    });
  });
  afterAll(() => kiln.close());

  it.each(FAILURES)('%s fails where and as it should', async (name, request, stage, code, stack) => {
    await kiln.workloads.create(request, name);
    const { failure } = await kiln.untilStage(name, 'failed');
    expect(failure).toMatchObject({ stage, code });
    if (stack !== undefined) expect(failure?.stack).toContain(stack);
    expect(await kiln.left()).toEqual([]);
  });

  it.each([
    ['building', 'waits-in-build', 'build'],
    ['booting', 'plain', 'deploy'],
  ] as const)('a stop while %s ends stopped', async (name, servicePath, stage) => {
    const id = `stop-${name}`;
    await kiln.workloads.create({ servicePath, env: { BUILD_MS: '60000', BUILD_FOR: id } }, id);
    await kiln.untilStage(id, stage);
    // Wait until the build runs in its VM, or until there is a VM, which is stopped before it can have booted.
    const saysBuilding = async () =>
      (await kiln.host.logs.read(workloadRef(id, 1), -1, 1000)).some(
        ({ message }) => message === 'waits-in-build: building',
      );
    const hasProcess = async () => {
      const found = (await kiln.left()).flatMap((line) => /^process (\d+)/.exec(line)?.[1] ?? []);
      for (const pid of found) process.kill(Number(pid), 'SIGSTOP');
      return found.length > 0;
    };
    while (!(await (name === 'building' ? saysBuilding() : hasProcess()))) await delay(10);
    const { snapshot, settled } = await kiln.workloads.stop(id, STOP);
    expect(settled).toBe(true);
    expect(snapshot.state).toMatchObject({ stage: 'stopped', unreleased: [] });
    expect(snapshot.state.failure).toBeUndefined();
    expect(snapshot.state.moves.at(-1)?.from).toBe(stage);
    expect(await kiln.left()).toEqual([]);
  });

  it('a VMM that is killed is seen, told and cleaned up after', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'vm-killed');
    const { vm } = await kiln.untilStage('vm-killed', 'running');
    process.kill(vm?.pid ?? 0, 'SIGKILL');
    const state = await kiln.untilStage('vm-killed', 'failed');
    expect(state).toMatchObject({ failure: { code: 'VMM_EXITED', stage: 'running' }, exit: { reason: 'vm-lost' } });
    expect(await kiln.left([vm?.port ?? 0])).toEqual([]);
  });

  it('two VMs of one image are two machines', async () => {
    const ids = ['twin-1', 'twin-2'];
    for (const id of ids) await kiln.workloads.create({ servicePath: 'plain' }, id);
    const states = await Promise.all(ids.map((id) => kiln.untilStage(id, 'running')));
    const answers = await Promise.all(states.map(async ({ vm }) => (await fetch(vm?.url ?? '')).json()));
    expect(answers).toMatchObject(ids.map((hostname) => ({ hostname, kernel: expect.stringContaining('cloud') })));
    const machineIds = await Promise.all(states.map(({ vm }) => printedIn(vm?.vmId, 'cat /etc/machine-id')));
    for (const machineId of machineIds) expect(machineId).toMatch(/^[0-9a-f]{32}\n$/);
    expect(new Set(machineIds).size).toBe(ids.length);
    for (const id of ids) expect((await kiln.workloads.stop(id, STOP)).snapshot.state.stage).toBe('stopped');
    expect(await kiln.left(states.map(({ vm }) => vm?.port ?? 0))).toEqual([]);
  });

  it('a build reaches the registry; its output runs, and its log is kept in order', async () => {
    await kiln.workloads.create({ servicePath: 'bundled' }, 'bundled');
    const { vm } = await kiln.untilStage('bundled', 'running');
    expect(await (await fetch(vm?.url ?? '')).json()).toMatchObject({ service: 'bundled', dependencyWorks: true });
    expect((await kiln.workloads.stop('bundled', STOP)).settled).toBe(true);
    expect(await kiln.left([vm?.port ?? 0])).toEqual([]);
    const log = (await logOf('bundled')).join('\n');
    expect(log).toMatch(/\$ npm ci.*npm ci took.*\$ node build\.js\nbundled: built\n.*bundled: listening\n/s);
  });

  it('a service reaches itself and nothing else; what was refused stands in its log', async () => {
    await kiln.workloads.create({ servicePath: 'egress-probe' }, 'egress-probe');
    const { vm } = await kiln.untilStage('egress-probe', 'running');
    const ask = async (path: string) => outcomeSchema.parse(await (await fetch(`${vm?.url}${path}`)).json());
    // Proves that Kiln makes the refusals below: the probe works, and these servers listen on this machine.
    expect(await ask('/dial?host=127.0.0.1&port=8080')).toMatchObject({ ok: true });
    const hostPort = new URL(inject('s3').endpoint).port;
    const registry = (await realRegistries()).endpoints[0];
    await fetch(inject('s3').endpoint);
    const own = Object.values(networkInterfaces()).flatMap((list) => list?.map(({ address }) => address) ?? []);
    const dialled = [...own, '10.0.2.2', '10.0.0.1', '172.16.0.1', '192.168.0.1', '100.64.0.1'];
    const refused = [
      ...dialled.map((address) => `/dial?host=${encodeURIComponent(address)}&port=${hostPort}`),
      '/dial?host=169.254.169.254&port=80',
      '/probe?url=http://169.254.169.254/latest/meta-data',
      `/probe?url=http://localhost:${hostPort}/`,
      '/probe?url=https://example.com/',
      `/probe?url=https://${registry}/is-number`,
    ];
    for (const path of refused) expect(await ask(path), path).toMatchObject({ ok: false });
    expect((await kiln.workloads.stop('egress-probe', STOP)).settled).toBe(true);
    expect(await kiln.left([vm?.port ?? 0])).toEqual([]);
    const log = await logOf('egress-probe');
    for (const name of ['example.com:443', registry ?? '']) {
      expect(log.filter((line) => line.includes(name) && line.includes('not on the allow-list'))).toHaveLength(1);
    }
  });

  it('left only lawful histories that replay', async () => {
    expect(await kiln.judge()).not.toEqual([]);
  });

  async function printedIn(vmId: string | undefined, script: string): Promise<string> {
    const agent = await kiln.host.vms.agent(vmId ?? '');
    const argv = ['sh', '-c', script];
    const handle = await agent.exec({ execId: randomUUID(), argv, cwd: '/', output: 'wait' });
    let text = '';
    for await (const piece of handle.output) if (piece.kind === 'data') text += piece.data.toString();
    return text;
  }

  /** The messages of a workload that its host has shipped, in order. */
  async function logOf(workloadId: string): Promise<string[]> {
    const messages: string[] = [];
    for (const writer of await listLogWriters(kiln.store, workloadId)) {
      const entries = await readLogEntries(kiln.store, writer, { after: -1, limit: 10_000 });
      expect(entries.map(({ n }) => n)).toEqual(entries.map((_, index) => index));
      messages.push(...entries.map(({ message }) => message));
    }
    return messages;
  }
});
