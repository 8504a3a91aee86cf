import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';

describe.each([
  ['with workflows cached', 100],
  ['with every workflow task replayed from the start', 0],
])('a workload, %s', (_name, maxCachedWorkflows) => {
  let kiln: Harness;
  const id = `plain-${maxCachedWorkflows}`;
  beforeAll(async () => {
    kiln = await startHarness({ maxCachedWorkflows });
  });
  afterAll(() => kiln.close());

  it('goes through every stage, answers from its guest, and leaves nothing when it is stopped', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, id);
    const running = await kiln.untilStage(id, 'running');
    const port = running.vm?.port ?? 0;
    expect((await fetch(`http://127.0.0.1:${port}/`)).status).toBe(200);
    const { snapshot, settled } = await kiln.workloads.stop(id, { waitMs: 20_000 });
    expect(settled).toBe(true);
    expect(snapshot.state).toMatchObject({ stage: 'stopped', exit: { reason: 'stopped' }, unreleased: [], notes: [] });
    const history = await kiln.workloads.history(id);
    expect(history.stages).toEqual(['pending', 'validate', 'build', 'deploy', 'running', 'stopped']);
    expect(history.events).toBeLessThan(100);
    expect(await kiln.left([port])).toEqual([]);
    expect(await kiln.judge()).toMatchObject([{ workloadId: id, stages: history.stages }]);
  });
});
