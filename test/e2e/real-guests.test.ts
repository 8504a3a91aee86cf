/** Ends of every kind and what a guest may reach, in real guests of the image that set-up built. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import type { WorkloadRequest } from '../../domain/workload.ts';
import { listLogWriters, readLogEntries } from '../../store/log-chunks.ts';
import { type Harness, realRegistries, startHarness } from '../support/kiln-harness.ts';

const STOP = { waitMs: 60_000 };
const QUICK = { intervalMs: 500, timeoutMs: 2_000, failures: 2, startPeriodMs: 6_000 };
const outcomeSchema = z.looseObject({ ok: z.boolean() });

const FAILURES: [name: string, request: WorkloadRequest, stage: string, code: string][] = [
  ['build-fails', { servicePath: 'build-fails' }, 'build', 'BUILD_FAILED'],
  ['exits', { servicePath: 'exits' }, 'deploy', 'SERVICE_EXITED'],
  ['never-listens', { servicePath: 'never-listens', health: QUICK }, 'deploy', 'HEALTH_FAILED'],
];

describe('in real guests', () => {
  let kiln: Harness;
  beforeAll(async () => {
    // The policies of production, not the milliseconds of the fake driver.
    kiln = await startHarness({
      guests: 'qemu',
      policies: { placement: {}, host: {}, supervise: {}, leave: {} },
    });
  });
  afterAll(() => kiln.close());

  it.each(FAILURES)('%s fails where and as it should', async (name, request, stage, code) => {
    await kiln.workloads.create(request, name);
    const { failure } = await kiln.untilStage(name, 'failed');
    expect(failure).toMatchObject({ stage, code });
    expect(name === 'never-listens' || (failure?.stack ?? '').includes(`${name}:`)).toBe(true);
    expect(await kiln.left()).toEqual([]);
  });

  it.each([
    ['building', 'waits-in-build', 'build'],
    ['booting', 'plain', 'deploy'],
  ] as const)('a stop while %s ends stopped', async (name, servicePath, stage) => {
    const id = `stop-${name}`;
    await kiln.workloads.create({ servicePath, env: { BUILD_MS: '60000', BUILD_FOR: id } }, id);
    await kiln.untilStage(id, stage);
    // Its VM is there, and busy.
    while (!(await kiln.left()).some((line) => line.startsWith('process'))) await delay(10);
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

  it('a build reaches the registry; a service reaches nothing, each guest is itself, and its log is kept', async () => {
    await kiln.workloads.create({ servicePath: 'bundled' }, 'bundled');
    await kiln.workloads.create({ servicePath: 'egress-probe' }, 'egress-probe');
    const probe = await kiln.untilStage('egress-probe', 'running');
    const ask = async (path: string) => outcomeSchema.parse(await (await fetch(`${probe.vm?.url}${path}`)).json());
    const refused = [
      '/dial?host=127.0.0.1&port=22',
      '/dial?host=169.254.169.254&port=80',
      '/dial?host=10.0.2.2&port=80',
      '/dial?host=192.168.0.1&port=443',
      '/probe?url=http://169.254.169.254/latest/meta-data',
      '/probe?url=http://localhost:4800/',
      '/probe?url=https://example.com/',
      `/probe?url=https://${(await realRegistries()).endpoints[0]}/is-number`,
    ];
    for (const path of refused) expect(await ask(path), path).toMatchObject({ ok: false });
    const built = await kiln.untilStage('bundled', 'running');
    expect((await fetch(built.vm?.url ?? '')).status).toBe(200);
    for (const id of ['bundled', 'egress-probe']) expect((await kiln.workloads.stop(id, STOP)).settled).toBe(true);
    expect(await kiln.left([probe.vm?.port ?? 0, built.vm?.port ?? 0])).toEqual([]);
    expect(await logOf('bundled')).toEqual(expect.arrayContaining([expect.stringContaining('npm ci')]));
    expect(await logOf('egress-probe')).toContain('egress-probe: listening');
  });

  it('left only lawful histories that replay', async () => {
    expect((await kiln.judge()).length).toBeGreaterThan(FAILURES.length);
  });

  /** The lines of a workload that its host has shipped, in their order. */
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
