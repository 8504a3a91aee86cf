/** `kill -9` of each process of a stack, with two services running and one in build, all in real guests. */
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { processStartTime } from '../../cli/dev/process-start-time.ts';
import type { WorkloadView } from '../../contracts/workload-view.ts';
import { answerOf, type ProcessIdentity, type RunningStack, StackHome, throughOutages } from '../support/dev-stack.ts';
import { SERVICES } from '../support/kiln-harness.ts';

/** Linux counts start times of processes in hundredths of a second, whatever the machine. */
const MS_PER_TICK = 10;
/** Time enough to kill something in the middle of it. */
const BUILD_MS = '6000';

describe('a stack of which a process is killed', () => {
  let home: StackHome;
  let stack: RunningStack;
  let services: { view: WorkloadView; vmm: ProcessIdentity }[];
  const ports: number[] = [];

  beforeAll(async () => {
    home = await StackHome.make();
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

  /** Each answers, from the very process it ran in before. */
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

  it.each(['control', 'temporal', 's3', 'host'])(
    '%s: is started again; services answer from the same VMs, the build ends well, a stop works',
    async (name) => {
      const id = `built-past-${name}`;
      await stack.api.createWorkload({ body: { id, servicePath: 'waits-in-build', env: { BUILD_MS, BUILD_FOR: id } } });
      expect((await stack.untilLogged(id, 'waits-in-build: building')).stage).toBe('build');
      const restarted = await stack.killProcess(name);
      for (const { view } of services) await answerOf(view.url);
      const ms = (await uptimeMs()) - Number(restarted.startTime) * MS_PER_TICK;
      console.log(`${name}: both services have answered ${Math.round(ms)} ms after its restart began`);
      await expectUndisturbed();
      const { view } = await running(await stack.untilStage(id, 'running'));
      expect(await answerOf(view.url)).toBe('waits-in-build\n');
      // It was in its build when the process was killed, and nothing of what it did before was done again.
      expect(view.transitions.map(({ to }) => to)).toEqual(['validate', 'build', 'deploy', 'running']);
      await expectUndisturbed();
      const stopped = await throughOutages(() => stack.api.stopWorkload({ params: { id } }));
      expect(stopped).toMatchObject({ stage: 'stopped', unreleased: [] });
    },
  );

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
