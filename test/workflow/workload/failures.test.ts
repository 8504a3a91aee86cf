import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WorkloadRequest } from '../../../domain/workload/workload.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';

const QUICK = { intervalMs: 100, timeoutMs: 5_000, failures: 2 };
/** For a service that never starts to listen: the test must wait for the end of its start period. */
const IMPATIENT = { ...QUICK, startPeriodMs: 1_500 };

/** Failures caused by the service itself before it runs: stage, code, and words of the message that name the fix. */
const EARLY: [name: string, request: WorkloadRequest, stage: string, code: string, message: string][] = [
  [
    'missing',
    { servicePath: 'services/api' },
    'validate',
    'SERVICE_NOT_FOUND',
    'Service directory not found: services/api',
  ],
  ['no-manifest', { servicePath: 'no-manifest' }, 'validate', 'MANIFEST_MISSING', 'package.json'],
  ['dockerfile', { servicePath: 'dockerfile-only' }, 'validate', 'MANIFEST_MISSING', 'Dockerfile'],
  ['broken-json', { servicePath: 'broken-kiln-json' }, 'validate', 'CONFIG_INVALID', 'kiln.json'],
  ['needs-env', { servicePath: 'needs-env' }, 'validate', 'ENV_MISSING', 'environment variable'],
  ['build-fails', { servicePath: 'build-fails' }, 'build', 'BUILD_FAILED', 'exited with code 2'],
  ['exits', { servicePath: 'exits', health: QUICK }, 'deploy', 'SERVICE_EXITED', 'code 1'],
  ['never-listens', { servicePath: 'never-listens', health: IMPATIENT }, 'deploy', 'HEALTH_FAILED', 'PORT (8080)'],
];

describe('a workload that goes wrong', () => {
  let kiln: Harness;
  beforeAll(async () => {
    kiln = await startHarness();
  });
  afterAll(() => kiln.close());

  it.each(EARLY)(
    '%s: fails in the right stage with a code and a message',
    async (name, request, stage, code, message) => {
      await kiln.workloads.create(request, `early-${name}`);
      const state = await kiln.untilStage(`early-${name}`, 'failed');
      expect(state.failure).toMatchObject({ stage, code, message: expect.stringContaining(message) });
      expect(state.moves.at(-1)).toMatchObject({ from: stage, to: 'failed' });
      expect(await kiln.left()).toEqual([]);
    },
  );

  it('exits while running: SERVICE_EXITED with its exit and last lines', async () => {
    await kiln.workloads.create({ servicePath: 'exits-later' }, 'exits-later');
    const { vm } = await kiln.untilStage('exits-later', 'running');
    await fetch(`${vm?.url}/exit?code=3`);
    const state = await kiln.untilStage('exits-later', 'failed');
    expect(state).toMatchObject({
      failure: { code: 'SERVICE_EXITED', stage: 'running', stack: expect.stringContaining('asked to exit') },
      exit: { code: 3, signal: null, reason: 'exited' },
    });
  });

  it('dies by a signal while running: told as that', async () => {
    await kiln.workloads.create({ servicePath: 'exits-later' }, 'killed');
    const { vm } = await kiln.untilStage('killed', 'running');
    await fetch(`${vm?.url}/kill`);
    expect(await kiln.untilStage('killed', 'failed')).toMatchObject({ exit: { signal: 'SIGKILL', reason: 'killed' } });
  });

  it('turns unhealthy while running: HEALTH_FAILED', async () => {
    await kiln.workloads.create({ servicePath: 'unhealthy', health: QUICK }, 'unhealthy');
    const { vm } = await kiln.untilStage('unhealthy', 'running');
    await fetch(`${vm?.url}/fail`);
    const state = await kiln.untilStage('unhealthy', 'failed');
    expect(state.failure).toMatchObject({
      code: 'HEALTH_FAILED',
      stage: 'running',
      message: expect.stringContaining('500'),
    });
  });

  it('loses its VM: VMM_EXITED', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'vm-killed');
    const { vm } = await kiln.untilStage('vm-killed', 'running');
    process.kill(vm?.pid ?? 0, 'SIGKILL');
    const state = await kiln.untilStage('vm-killed', 'failed');
    expect(state).toMatchObject({ failure: { code: 'VMM_EXITED', stage: 'running' }, exit: { reason: 'vm-lost' } });
  });

  it('asks for more than any host has: NO_CAPACITY at once', async () => {
    await kiln.workloads.create({ servicePath: 'plain', resources: { memMib: 200_000 } }, 'too-big');
    const state = await kiln.untilStage('too-big', 'failed');
    expect(state.failure).toMatchObject({
      code: 'NO_CAPACITY',
      stage: 'pending',
      message: expect.stringContaining('largest'),
    });
  });

  it('asks for a port that is taken: PORT_IN_USE', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'port-first');
    const { vm } = await kiln.untilStage('port-first', 'running');
    await kiln.workloads.create({ servicePath: 'plain', hostPort: vm?.port ?? 0 }, 'port-second');
    const state = await kiln.untilStage('port-second', 'failed');
    expect(state.failure).toMatchObject({ code: 'PORT_IN_USE', stage: 'deploy' });
    expect((await fetch(vm?.url ?? '')).status).toBe(200);
    await kiln.workloads.stop('port-first', { waitMs: 20_000 });
  });

  it('left nothing on the host, and lawful histories that replay', async () => {
    expect(await kiln.left()).toEqual([]);
    for (const { stages } of await kiln.judge()) expect(['failed', 'stopped']).toContain(stages.at(-1));
  });
});
