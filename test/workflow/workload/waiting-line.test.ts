/** When capacity is short, priority and age decide who goes first, and everybody can see the line. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { WorkloadState } from '../../../domain/workload/workload.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';

/** Room for two workloads of the default size, with the overhead of their VMMs. */
const CAPACITY = { vcpus: 16, memMib: 2_000 };
const WAIT = { timeout: 30_000 };

let kiln: Harness;
beforeAll(async () => {
  kiln = await startHarness({
    capacity: CAPACITY,
    policies: { placement: { deadlineMs: 120_000, backoffMs: 20, maxBackoffMs: 100 } },
  });
});
afterAll(() => kiln.close());

const stateOf = async (id: string): Promise<WorkloadState> => (await kiln.workloads.get(id)).state;
const untilAhead = (id: string, ahead: number) =>
  expect.poll(async () => (await stateOf(id)).waiting?.ahead, { ...WAIT, message: id }).toBe(ahead);
const stop = (id: string) => kiln.workloads.stop(id, { waitMs: 20_000 });

it('a lower priority does not take what a higher one waits for, nor a small one what a big one does', async () => {
  for (const id of ['one', 'two']) {
    await kiln.workloads.create({ servicePath: 'plain' }, id);
    await kiln.untilStage(id, 'running');
  }
  await kiln.workloads.create({ servicePath: 'plain', resources: { memMib: 1_500 } }, 'big');
  await untilAhead('big', 0);
  await kiln.workloads.create({ servicePath: 'plain' }, 'small');
  await untilAhead('small', 1);
  await kiln.workloads.create({ servicePath: 'plain', priority: 1 }, 'urgent');
  await untilAhead('urgent', 0);
  await untilAhead('big', 1);
  await untilAhead('small', 2);
  expect((await stateOf('small')).waiting?.reason).toContain('2 workloads are served before it.');

  await stop('one');
  await kiln.untilStage('urgent', 'running');
  await stop('two');
  // Now there is room for `small`, but it is set aside for `big`.
  await expect.poll(async () => (await stateOf('small')).waiting?.reason, WAIT).toContain('for those who came first');
  expect((await stateOf('small')).stage).toBe('pending');
  await stop('urgent');
  expect((await kiln.untilStage('big', 'running')).waiting).toBeUndefined();
  await untilAhead('small', 0);

  await kiln.workloads.create({ servicePath: 'plain', priority: 2 }, 'gives-up');
  await untilAhead('small', 1);
  await stop('gives-up');
  // A workload that is stopped while it waits leaves the line at once.
  await untilAhead('small', 0);
  await stop('big');
  await kiln.untilStage('small', 'running');
  await stop('small');
  expect(await kiln.left()).toEqual([]);
  const left: string[] = [];
  for await (const { key } of kiln.store.listAll('waiting/')) left.push(key);
  expect(left).toEqual([]);
  await kiln.judge();
});
