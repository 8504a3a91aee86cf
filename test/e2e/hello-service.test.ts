import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Harness, startHarness } from '../support/kiln-harness.ts';

describe('the example service in real guests', () => {
  let kiln: Harness;
  beforeAll(async () => {
    kiln = await startHarness({
      guests: 'qemu',
      projectRoot: fileURLToPath(new URL('../..', import.meta.url)),
      policies: { supervise: {}, leave: {}, host: {} },
    });
  });
  afterAll(() => kiln.close());

  it('is built in one VM, answers from another, and leaves nothing', async () => {
    await kiln.workloads.create({ servicePath: 'examples/hello-service' }, 'hello-1');
    const running = await kiln.untilStage('hello-1', 'running');
    const port = running.vm?.port ?? 0;
    const answer = await fetch(`http://127.0.0.1:${port}/`);
    expect(await answer.json()).toMatchObject({ hostname: 'hello-1', kernel: expect.stringContaining('cloud') });
    const { snapshot, settled } = await kiln.workloads.stop('hello-1', { waitMs: 60_000 });
    expect(settled).toBe(true);
    expect(snapshot.state).toMatchObject({ stage: 'stopped', unreleased: [], notes: [] });
    expect(await kiln.left([port])).toEqual([]);
  });
});
