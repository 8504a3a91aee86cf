/** The first steps of a new user: the command of the README, and every way to end `kiln dev`. Real guests. */
import { access } from 'node:fs/promises';
import { release } from 'node:os';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type RunningStack, StackHome } from '../support/workers/dev-stack.ts';
import { SERVICES } from '../support/workers/harness-workers.ts';

const resultSchema = z.strictObject({
  workloadId: z.string(),
  stages: z.array(z.string()),
  serviceUrl: z.url(),
  response: z.looseObject({ hostname: z.string(), kernel: z.string() }),
  submitToRunningMs: z.number().positive(),
  historyEvents: z.int(),
  vmReadyMs: z.number().positive(),
});

describe('npm start -- --once --json', () => {
  it('goes through a whole life and leaves nothing', async () => {
    const home = await StackHome.make();
    try {
      const program = home.run(['npm', 'start', '--', '--once', '--json']);
      expect(await program.ended, program.stderr()).toEqual({ code: 0, signal: null });
      const result = resultSchema.parse(JSON.parse(program.stdout().trim().split('\n').at(-1) ?? ''));
      expect(result.stages).toEqual(['pending', 'validate', 'build', 'deploy', 'running', 'stopped']);
      expect(result.response.hostname).toBe(result.workloadId);
      expect(result.response.kernel).not.toBe(release());
      // How few events an undisturbed life has is judged by test/workflow/workload/lifecycle.test.ts: here other tests use
      // the machine, and a call that a starved host answers late is made again.
      expect(result.historyEvents).toBeGreaterThan(result.stages.length);
      expect(await home.left([Number(new URL(result.serviceUrl).port)])).toEqual([]);
      await expect(access(home.paths.devJson)).rejects.toThrow();
    } finally {
      await home.remove();
    }
  });
});

describe('kiln dev', () => {
  let home: StackHome;
  let stack: RunningStack;
  beforeAll(async () => {
    home = await StackHome.make();
    stack = await home.startDev(SERVICES);
  });
  afterAll(() => home.remove());

  it('refuses a second stack on one home', async () => {
    const second = home.kiln(['dev'], SERVICES);
    expect((await second.ended).code).toBe(1);
    expect(second.stderr()).toContain('KILN_HOME');
  });

  it('killed by force and started again goes on where it was, with the same VM', async () => {
    await stack.api.createWorkload({ body: { id: 'kept', servicePath: 'plain' } });
    const before = await stack.untilStage('kept', 'running');
    await stack.end('SIGKILL');
    stack = await home.startDev(SERVICES);
    const after = await stack.untilStage('kept', 'running');
    expect(after).toMatchObject({ pid: before.pid, port: before.port, containerId: before.containerId });
    expect((await fetch(after.url ?? '')).status).toBe(200);
  });

  it('stops what runs when it is interrupted, and leaves nothing', async () => {
    const { port } = await stack.untilStage('kept', 'running');
    expect(await stack.end('SIGINT')).toEqual({ code: 0, signal: null });
    expect(await home.left([port ?? 0])).toEqual([]);
    await expect(access(home.paths.devJson)).rejects.toThrow();
  });
});
