/**
 * The kill matrix: `kill -9` of each process of a stack, and of VMMs, while four workloads are in progress: two running
 * services, one in its build, one in its boot. All in real guests.
 */

import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WorkloadView } from '../../contracts/api/workload-view.ts';
import { processStartTime } from '../../linux/process-identity.ts';
import {
  answerOf,
  type ProcessIdentity,
  type RunningStack,
  StackHome,
  throughOutages,
} from '../support/workers/dev-stack.ts';
import { SERVICES } from '../support/workers/harness-workers.ts';

/** Linux gives start times of processes in hundredths of a second on every machine. */
const MS_PER_TICK = 10;
/** Long enough to kill something in the middle of the build. */
const BUILD_MS = '8000';

describe('a stack of which a process is killed', () => {
  let home: StackHome;
  let stack: RunningStack;
  let services: { view: WorkloadView; vmm: ProcessIdentity }[];
  const ports: number[] = [];

  beforeAll(async () => {
    // Without templates: a clone starts too quickly to be killed in the middle.
    home = await StackHome.make({ KILN_TEMPLATES: 'off' });
    stack = await home.startDev(SERVICES);
    const ids = ['plain-1', 'plain-2'];
    for (const id of ids) await stack.api.createWorkload({ body: { id, servicePath: 'plain' } });
    services = await Promise.all(ids.map(async (id) => running(await stack.untilStage(id, 'running'))));
  });
  afterAll(() => home.remove());

  async function running(view: WorkloadView) {
    const pid = view.pid ?? 0;
    ports.push(view.port ?? 0);
    return { view, vmm: { pid, startTime: await processStartTime(pid) } };
  }

  /** Each service answers, from the same process as before. */
  async function expectUndisturbed(): Promise<void> {
    for (const { view, vmm } of services) {
      expect(JSON.parse(await answerOf(view.url))).toMatchObject({ service: 'plain', hostname: view.id });
      expect(await processStartTime(vmm.pid)).toBe(vmm.startTime);
      expect(await stack.untilStage(view.id, 'running')).toMatchObject({
        stage: 'running',
        pid: vmm.pid,
        containerId: view.containerId,
        url: view.url,
      });
    }
  }

  /** Brings one workload into its build and one into its boot, and stops both VMMs there. @returns ids and VMM pids */
  async function inFlight(name: string) {
    const [built, booted] = [`built-past-${name}`, `booted-past-${name}`];
    const env = { BUILD_MS, BUILD_FOR: built };
    await stack.api.createWorkload({ body: { id: built, servicePath: 'waits-in-build', env } });
    await stack.untilLogged(built, 'waits-in-build: building');
    // The build must be stopped now: on a busy machine it could finish before the second workload boots.
    const builder = await held(built, 'builder');
    await stack.api.createWorkload({ body: { id: booted, servicePath: 'plain' } });
    const booting = await held(booted, 'service');
    const stages = [built, booted].map(async (id) => (await stack.api.getWorkload({ params: { id } })).stage);
    expect(await Promise.all(stages)).toEqual(['build', 'deploy']);
    return { built, booted, vmms: [builder, booting] };
  }

  /** Stops the VMM of a workload with SIGSTOP. @returns its pid */
  async function held(id: string, role: 'builder' | 'service'): Promise<number> {
    const pid = await home.vmPid(id, role);
    process.kill(pid, 'SIGSTOP');
    return pid;
  }

  it.each(['control', 'temporal', 's3', 'host'])(
    '%s: is started again; services answer from the same VMs, build and boot end well, stops work',
    async (name) => {
      const { built, booted, vmms } = await inFlight(name);
      for (const pid of vmms) process.kill(pid, 'SIGCONT');
      const restarted = await stack.killProcess(name);
      for (const { view } of services) await answerOf(view.url);
      const ms = (await uptimeMs()) - Number(restarted.startTime) * MS_PER_TICK;
      console.log(`${name}: both services have answered ${Math.round(ms)} ms after its restart began`);
      await expectUndisturbed();
      for (const [id, answer] of [[built, 'waits-in-build'] as const, [booted, 'plain'] as const]) {
        const { view } = await running(await stack.untilStage(id, 'running'));
        expect(await answerOf(view.url)).toContain(answer);
        // Nothing that was done before the kill was repeated.
        expect(view.transitions.map(({ to }) => to)).toEqual(['validate', 'build', 'deploy', 'running']);
      }
      await expectUndisturbed();
      for (const id of [built, booted]) {
        const stopped = await throughOutages(() => stack.api.stopWorkload({ params: { id } }));
        expect(stopped).toMatchObject({ stage: 'stopped', unreleased: [] });
      }
    },
  );

  it('VMMs: whose VM it was fails in its stage, or builds anew; nobody else notices', async () => {
    const { built, booted, vmms } = await inFlight('vmm');
    const [victim] = services.splice(0, 1);
    for (const pid of [...vmms, victim?.vmm.pid ?? 0]) process.kill(pid, 'SIGKILL');
    const ends = await Promise.all([
      stack.untilStage(built, 'running', 'failed'),
      stack.untilStage(booted, 'failed'),
      stack.untilStage(victim?.view.id ?? '', 'failed'),
    ]);
    console.log(ends.map(({ id, stage, code, error }) => `${id}: ${stage} ${code ?? ''} ${error ?? ''}`).join('\n'));
    expect(ends.slice(1)).toMatchObject([
      { failedStage: 'deploy', code: 'VMM_EXITED', unreleased: [] },
      { failedStage: 'running', code: 'VMM_EXITED', unreleased: [] },
    ]);
    await expectUndisturbed();
    await stack.api.stopWorkload({ params: { id: built } });
  });

  it('stops every workload afterwards, ends at Ctrl-C, and leaves nothing', async () => {
    for (const { view } of services) {
      const stopped = await stack.api.stopWorkload({ params: { id: view.id } });
      expect(stopped).toMatchObject({ stage: 'stopped', unreleased: [] });
    }
    expect(await stack.end('SIGINT')).toEqual({ code: 0, signal: null });
    expect(await home.left(ports)).toEqual([]);
  });
});

async function uptimeMs(): Promise<number> {
  const [seconds] = (await readFile('/proc/uptime', 'utf8')).split(' ');
  return Number(seconds) * 1000;
}
