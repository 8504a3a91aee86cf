/** The pool with real guests: a VM that already runs in QEMU becomes a workload's VM, and serves. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULT_HOST_SETTINGS } from '../../host/host-settings.ts';
import { type Harness, startHarness } from '../support/workers/kiln-harness.ts';

const POOLED = {
  ...DEFAULT_HOST_SETTINGS.pool,
  limits: { pool_size: 1, min_idle: 1 },
  warm: [{ image: 'node', vcpus: 1, memMib: 512 }],
  blockedMs: 0,
};

let kiln: Harness;
beforeAll(async () => {
  kiln = await startHarness({
    guests: 'qemu',
    hostSettings: { pool: POOLED },
    policies: { host: { scheduleToStartMs: 30_000 }, deploy: { provisionMs: 60_000, bootMs: 60_000 } },
  });
});
afterAll(() => kiln.close());

describe('a pooled VM of QEMU', () => {
  it('is handed out running, answers under its new name after a restart of the host worker, and goes whole', async () => {
    await expect.poll(() => kiln.host.pool.status().pools[0]?.ready, { timeout: 120_000, interval: 100 }).toBe(1);
    await kiln.workloads.create({ servicePath: 'plain' }, 'pooled');
    const { vm } = await kiln.untilStage('pooled', 'running');
    expect(kiln.host.pool.status().counters.hits).toBe(1);
    const get = async () => (await fetch(vm?.url ?? '', { headers: { connection: 'close' } })).text();
    expect(await get()).toContain('pooled');
    await kiln.restartHost();
    expect(await get()).toContain('pooled');
    expect((await kiln.host.vms.status(vm?.vmId ?? '')).state).toBe('running');
    const { snapshot } = await kiln.workloads.stop('pooled', { waitMs: 60_000 });
    expect(snapshot.state.stage).toBe('stopped');
    expect(await kiln.host.vms.status(vm?.vmId ?? '')).toEqual({ state: 'gone' });
    // The pool's own VMs are released together with the pool.
    const pooled = kiln.host.pool.status().pools.flatMap((pool) => pool.vms.map(({ vmId }) => vmId));
    await kiln.host.pool.stop();
    for (const vmId of pooled) await kiln.host.vms.release(vmId, { graceMs: 0 });
    for (const { id } of await kiln.host.ledger.list()) await kiln.host.ledger.release(id);
    expect(await kiln.left()).toEqual([]);
  });
});
