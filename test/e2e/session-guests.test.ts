/** A session in a real guest: its runs, its rest, and its end. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Harness, startHarness } from '../support/workers/kiln-harness.ts';
import { ran, threadNamed, untilTier } from '../support/workers/session-steps.ts';

const shell = (script: string) => ['sh', '-c', script];

let kiln: Harness;
beforeAll(async () => {
  kiln = await startHarness({ guests: 'qemu' });
}, 60_000);
afterAll(async () => {
  await kiln.close();
});

describe('a session in a real guest', () => {
  const name = threadNamed('real');

  it('keeps files, processes of nobody and the time between two runs', async () => {
    const first = await ran(kiln.sessions, name, 'one', shell('pwd; echo kept > note'));
    expect(first.outcome).toMatchObject({ as: 'finished', code: 0, outputBytes: '/workspace\n'.length });
    const { state } = await untilTier(kiln.sessions, name, 'warm');
    const vmId = state?.place?.vmId ?? '';
    expect((await kiln.host.vms.status(vmId)).state).toBe('paused');
    const second = await ran(kiln.sessions, name, 'two', [
      'node',
      '-e',
      `process.exit(Math.abs(Date.now() - ${Date.now()}) < 60_000 ? 0 : 1)`,
    ]);
    expect(second.vm?.vmId).toBe(vmId);
    expect(second.outcome).toMatchObject({ code: 0 });
    expect((await ran(kiln.sessions, name, 'three', shell('grep kept note'))).outcome).toMatchObject({ code: 0 });
  });

  it('is taken over by the next worker of its host, running or paused', async () => {
    await untilTier(kiln.sessions, name, 'warm');
    await kiln.restartHost();
    const { vm, outcome } = await ran(kiln.sessions, name, 'four', shell('grep kept note; sleep 0.1'));
    expect(outcome).toMatchObject({ code: 0 });
    await kiln.sessions.send(name, { id: 'five', command: shell('for n in 1 2 3 4 5 6; do echo $n; sleep 0.5; done') });
    await kiln.restartHost();
    const five = await ran(kiln.sessions, name, 'six', ['true']);
    expect(five).toMatchObject({ turn: 6, vm });
    expect((await kiln.sessions.run(name, 'five')).run.run).toMatchObject({ outcome: { code: 0, outputBytes: 12 } });
  });

  it('is closed, and leaves nothing', async () => {
    expect((await kiln.sessions.close(name, { waitMs: 30_000 })).settled).toBe(true);
    expect(await kiln.left()).toEqual([]);
    await kiln.judge();
  });
});
