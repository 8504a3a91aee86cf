/** The workflow of a host's pool, and workloads that get its ready VMs. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensurePoolWorkflow } from '../../../client/temporal/pool/pool-workflow.ts';
import { poolWorkflowId } from '../../../domain/names.ts';
import { DEFAULT_HOST_SETTINGS } from '../../../host/host-settings.ts';
import { poolQuery } from '../../../workflows/messages.ts';
import { replayHistory } from '../../support/histories/replay-history.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';

const POOLED = {
  ...DEFAULT_HOST_SETTINGS.pool,
  limits: { pool_size: 2 },
  warm: [{ image: 'node', vcpus: 1, memMib: 512 }],
  blockedMs: 0,
};
const TIMINGS = {
  everyMs: 100,
  scheduleToStartMs: 500,
  startToCloseMs: 20_000,
  heartbeatMs: 2_000,
  lostAfterMs: 1_500,
  continueAfter: 4,
};

let kiln: Harness;
beforeAll(async () => {
  kiln = await startHarness({ hostSettings: { pool: POOLED } });
});
afterAll(async () => {
  // Like all VMs, ready ones outlive their host worker, so they must be released.
  const { pool, vms, ledger } = kiln.host;
  await pool.stop();
  const ready = pool.status().pools.flatMap((each) => each.vms.map(({ vmId }) => vmId));
  for (const vmId of ready) await vms.release(vmId, { graceMs: 0 });
  for (const { id } of await ledger.list()) await ledger.release(id);
  const left = await kiln.left();
  await kiln.close();
  expect(left).toEqual([]);
});

const handle = () => kiln.temporal.workflow.getHandle(poolWorkflowId('h1'));

describe('the pool of a host', () => {
  it('is kept in order by a workflow that shows it, over many executions', async () => {
    await ensurePoolWorkflow(kiln.temporal, 'h1', TIMINGS);
    const ready = async () => (await handle().query(poolQuery)).last?.pools[0]?.ready;
    await expect.poll(ready, { timeout: 20_000 }).toBe(2);
    await expect.poll(async () => (await handle().query(poolQuery)).rounds, { timeout: 20_000 }).toBeGreaterThan(9);
    await handle().signal('maintain');
    expect((await handle().describe()).searchAttributes.KilnHost).toEqual(['h1']);
  });

  it('is started once, however often its host starts', async () => {
    const before = await handle().describe();
    await ensurePoolWorkflow(kiln.temporal, 'h1', TIMINGS);
    const after = await handle().describe();
    expect(after.raw.workflowExecutionInfo?.firstRunId).toBe(before.raw.workflowExecutionInfo?.firstRunId);
  });

  it('gives workloads their VMs, which end as any other', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'pooled');
    const { vm } = await kiln.untilStage('pooled', 'running');
    expect(kiln.host.pool.status().counters.hits).toBeGreaterThan(0);
    expect((await kiln.host.vms.status(vm?.vmId ?? '')).state).toBe('running');
    await kiln.workloads.stop('pooled', { waitMs: 20_000 });
    expect((await kiln.workloads.get('pooled')).state.stage).toBe('stopped');
    await expect.poll(() => kiln.host.vms.status(vm?.vmId ?? '')).toEqual({ state: 'gone' });
  });

  it('ends its workflow where the host stays away, and the next host worker begins it anew', async () => {
    await kiln.stopHost();
    expect(await handle().result()).toBe('host silent');
    await replayHistory(kiln.temporal, poolWorkflowId('h1'));
    await kiln.startHost();
    await ensurePoolWorkflow(kiln.temporal, 'h1', TIMINGS);
    await expect.poll(async () => (await handle().query(poolQuery)).last?.enabled, { timeout: 20_000 }).toBe(true);
  });
});
