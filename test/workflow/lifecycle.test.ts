import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Harness, startHarness } from '../support/kiln-harness.ts';

describe('a workload', () => {
  let kiln: Harness;
  beforeAll(async () => {
    kiln = await startHarness();
  });
  afterAll(() => kiln.close());

  it('goes through every stage, answers from its guest, and leaves nothing when it is stopped', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'plain-1');
    const running = await kiln.untilStage('plain-1', 'running');
    const port = running.vm?.port ?? 0;
    const answer = await fetch(`http://127.0.0.1:${port}/`);
    expect(answer.status).toBe(200);
    const { snapshot, settled } = await kiln.workloads.stop('plain-1', { waitMs: 20_000 });
    expect(settled).toBe(true);
    expect(snapshot.state).toMatchObject({ stage: 'stopped', exit: { reason: 'stopped' }, unreleased: [] });
    const history = await kiln.workloads.history('plain-1');
    expect(history.stages).toEqual(['pending', 'validate', 'build', 'deploy', 'running', 'stopped']);
    expect(history.events).toBeLessThan(100);
    expect(await kiln.left([port])).toEqual([]);
  });
});
