import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { KilnError } from '../../../../domain/failures.ts';
import type { GuestKind } from '../../../../domain/guest-kind.ts';
import { type PoolSettingOverrides, resolvePoolSettings } from '../../../../domain/pool/pool-policy.ts';
import type { PooledVms } from '../../../../host/pool/pool-ports.ts';
import { createPoolPublication } from '../../../../host/pool/pool-publication.ts';
import { createVmPool, type VmPool, type VmPoolOptions } from '../../../../host/pool/vm-pool.ts';
import { CountedVms, keyOfKind, SIM_COSTS, SIM_DIGEST } from '../../../support/host/pool-simulation.ts';
import { silentLogger } from '../../../support/workers/silent-logger.ts';

const KEY = keyOfKind('a');
const WARM = { image: 'node', vcpus: KEY.vcpus, memMib: KEY.memMib, projectId: 'project-a' };
const owner = (workflowId: string) => ({
  workflowId,
  firstExecutionId: 'e',
  namespaceId: 'n',
  epoch: 1,
  boot: 1,
  role: 'service' as const,
});
const to = (vmId: string) => ({ vmId, owner: owner(`workload/${vmId}`) });

let vms: CountedVms;
beforeEach(() => {
  vi.useFakeTimers({ now: Date.parse('2026-01-01T00:00:00Z') });
  vms = new CountedVms();
});
afterEach(() => {
  vi.useRealTimers();
});

const poolOf = (limits: PoolSettingOverrides, more: Partial<VmPoolOptions> = {}) =>
  createVmPool({
    hostId: 'h1',
    settings: resolvePoolSettings(limits),
    warm: [WARM],
    vms,
    resolveImage: async () => SIM_DIGEST,
    claimWaitMs: 10_000,
    maxCreating: 2,
    blockedMs: 30_000,
    logger: silentLogger,
    ...more,
  });
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

/** Makes a request and lets the time pass that a hand-over takes. */
const given = async (pool: VmPool, vmId: string) => {
  const taken = pool.take(KEY, to(vmId));
  await pass(SIM_COSTS.claimMs);
  return taken;
};

/** The counted VMs, with some of their methods replaced. */
const over = (more: Partial<PooledVms>): PooledVms => ({
  create: (...given) => vms.create(...given),
  claim: (...given) => vms.claim(...given),
  destroy: (poolVmId) => vms.destroy(poolVmId),
  list: () => vms.list(),
  ...more,
});

describe('a request', () => {
  it('that comes while a VM is being made waits for that one; the next one gets none of it', async () => {
    const pool = poolOf({ pool_size: 1, min_idle: 1 });
    await pool.maintain();
    const [first, second] = [pool.take(KEY, to('a')), pool.take(KEY, to('b'))];
    expect(await second).toBe(false);
    await pass(SIM_COSTS.coldMs);
    await pass(SIM_COSTS.claimMs);
    expect(await first).toBe(true);
    expect(pool.status().counters).toMatchObject({ hits: 0, waits: 1, misses: 1 });
  });

  it('stops to wait when it is taken back, and the VM is then for the next', async () => {
    const pool = poolOf({ pool_size: 1, min_idle: 1 });
    await pool.maintain();
    const stop = new AbortController();
    const first = pool.take(KEY, to('a'), stop.signal);
    await pass(10);
    stop.abort();
    expect(await first).toBe(false);
    expect(await pool.take(KEY, to('b'), AbortSignal.abort())).toBe(false);
    await pass(SIM_COSTS.coldMs * 2);
    expect(await given(pool, 'c')).toBe(true);
  });

  it('does not wait for one that boots cold where it can be cloned by now', async () => {
    const pool = poolOf({ pool_size: 1, min_idle: 1 }, { templates: vms });
    await pool.maintain();
    vms.seed(KEY);
    expect(await pool.take(KEY, to('a'))).toBe(false);
    const second = pool.take(KEY, to('b'));
    await pass(SIM_COSTS.cloneMs * 2);
    expect(await second).toBe(true);
    expect(pool.status().counters).toMatchObject({ waits: 1, misses: 1 });
  });

  it('waits no longer than it may, and the VM is then for the next', async () => {
    const pool = poolOf({ pool_size: 1, min_idle: 1 }, { claimWaitMs: 100 });
    await pool.maintain();
    const first = pool.take(KEY, to('a'));
    await pass(100);
    expect(await first).toBe(false);
    await pass(SIM_COSTS.coldMs * 2);
    expect(await given(pool, 'b')).toBe(true);
  });

  it('gets none where the making fails, and the pool makes none for a while', async () => {
    let tries = 0;
    const failing = over({
      create: async () => {
        tries += 1;
        throw new KilnError('BOOT_TIMEOUT', 'no answer');
      },
    });
    const pool = poolOf({ pool_size: 1, min_idle: 1 }, { vms: failing });
    await pool.maintain();
    await pool.settled();
    expect([tries, pool.status().counters.failed]).toEqual([1, 1]);
    await pool.maintain();
    expect(await pool.take(KEY, to('a'))).toBe(false);
    expect(tries).toBe(1);
    await pass(30_000);
    await pool.maintain();
    await pool.settled();
    // The pool grows by one for the request that found no VM, so this round tries two.
    expect(tries).toBe(3);
  });

  it('passes over a VM that is gone', async () => {
    const pool = poolOf({ pool_size: 2 });
    await pool.maintain();
    await pass(SIM_COSTS.coldMs * 2);
    const [gone = ''] = [...vms.alive.keys()].sort();
    vms.alive.delete(gone);
    expect(await given(pool, 'a')).toBe(true);
    expect(pool.status().counters.recycled).toEqual({ gone: 1 });
  });

  it('for a name that is another’s is refused; a claim that fails otherwise leaves the request without a VM', async () => {
    const claim = vi.fn<PooledVms['claim']>();
    const pool = poolOf({ pool_size: 2 }, { vms: over({ claim }) });
    await pool.maintain();
    await pass(SIM_COSTS.coldMs * 2);
    claim.mockRejectedValueOnce(new KilnError('CONFLICT', 'another owner'));
    await expect(pool.take(KEY, to('a'))).rejects.toMatchObject({ code: 'CONFLICT' });
    claim.mockRejectedValueOnce(new Error('disk'));
    expect(await pool.take(KEY, to('b'))).toBe(false);
    expect(pool.status().counters.recycled).toEqual({ failed: 2 });
  });

  it('made twice for something that nobody configured makes a pool of it, for as long as it is asked for', async () => {
    const pool = poolOf({}, { warm: [] });
    expect(await pool.take(KEY, to('a'))).toBe(false);
    expect(pool.status().pools[0]).toMatchObject({ reason: 'unused', creating: 0 });
    expect(await pool.take(KEY, to('b'))).toBe(false);
    await pass(SIM_COSTS.coldMs * 4);
    expect(pool.status().pools[0]).toMatchObject({ reason: 'asked', ready: 5 });
    await pass(400_000);
    await pool.maintain();
    expect([pool.status().pools, vms.alive.size]).toEqual([[], 0]);
    expect(pool.status().counters).toMatchObject({ misses: 2, recycled: { unused: 5 } });
  });
});

describe('the pool', () => {
  it('goes on with the images it knows while they cannot be looked up', async () => {
    let away = false;
    const pool = poolOf(
      { pool_size: 1, min_idle: 1 },
      {
        resolveImage: async () => {
          if (away) throw new KilnError('STORE_UNAVAILABLE', 'away');
          return SIM_DIGEST;
        },
      },
    );
    await pool.maintain();
    away = true;
    await pass(SIM_COSTS.coldMs);
    await pool.maintain();
    expect(pool.status().pools).toMatchObject([{ reason: 'standing', ready: 1 }]);
  });

  it('drains nothing that it has taken over while the images cannot be looked up', async () => {
    let digest = Promise.reject<string>(new KilnError('STORE_UNAVAILABLE', 'away'));
    digest.catch(() => undefined);
    const before = poolOf({ pool_size: 1, min_idle: 1 });
    await before.maintain();
    await pass(SIM_COSTS.coldMs);
    const pool = poolOf({ pool_size: 1, min_idle: 1 }, { resolveImage: () => digest });
    await pool.start();
    await pool.maintain();
    expect(pool.status().pools).toMatchObject([{ reason: 'standing', ready: 1 }]);
    digest = Promise.resolve(`sha256:${'b'.repeat(64)}`);
    await pool.maintain();
    expect(pool.status().counters.recycled).toEqual({ 'image-replaced': 1 });
  });

  it('takes over what it finds, and destroys what is broken', async () => {
    const found = { key: KEY, createdAtMs: Date.now() - 1000 };
    const destroyed: string[] = [];
    const pool = poolOf(
      {},
      {
        vms: over({
          destroy: async (poolVmId) => void destroyed.push(poolVmId),
          list: async () => [
            { ...found, poolVmId: 'p-ok', state: 'ready' },
            { ...found, poolVmId: 'p-broken', state: 'broken' },
          ],
        }),
      },
    );
    await pool.start();
    expect([pool.owns('p-ok'), pool.owns('p-broken'), destroyed]).toEqual([true, false, ['p-broken']]);
  });

  it('leaves to the sweep what it cannot destroy', async () => {
    const pool = poolOf(
      { pool_size: 1, min_idle: 1 },
      { vms: over({ destroy: async () => Promise.reject(new Error('busy')) }) },
    );
    await pool.maintain();
    await pass(SIM_COSTS.coldMs);
    const [poolVmId = ''] = vms.alive.keys();
    expect([pool.owns(poolVmId), await pool.yieldToBoots(), pool.owns(poolVmId)]).toEqual([true, false, false]);
  });

  it('makes a template of an idle VM that booted cold, and clones the rest from it', async () => {
    const pool = poolOf({}, { templates: vms });
    await pool.maintain();
    await pass(SIM_COSTS.coldMs * 3);
    const round = pool.maintain();
    await pass(SIM_COSTS.freezeMs);
    await round;
    expect(pool.status().pools[0]).toMatchObject({ ready: 2, template: { templateId: 't-1' } });
    expect(await given(pool, 'a')).toBe(true);
    await pass(SIM_COSTS.cloneMs * 4);
    const from = pool.status().pools[0]?.vms.map(({ templateId }) => templateId);
    expect(from).toEqual([undefined, 't-1', 't-1']);
  });

  it('keeps nothing ready on a host that takes no new work', async () => {
    const pool = poolOf({ pool_size: 1, min_idle: 1 });
    await pool.maintain();
    await pass(SIM_COSTS.coldMs);
    pool.rest(true);
    await pool.maintain();
    expect([vms.alive.size, pool.status().counters.recycled]).toEqual([0, { unused: 1 }]);
    pool.rest(false);
    await pool.maintain();
    await pass(SIM_COSTS.coldMs);
    expect(vms.alive.size).toBe(1);
  });

  it('is filled at the start once the templates of an earlier process are looked at', async () => {
    const looked = Promise.withResolvers<void>();
    const templates = { ready: () => looked.promise, newest: (key: GuestKind) => vms.newest(key), refresh: vi.fn() };
    const pool = poolOf({ pool_size: 1, min_idle: 1 }, { templates });
    const round = pool.maintain();
    await pass(1_000);
    vms.seed(KEY);
    looked.resolve();
    await round;
    await pass(SIM_COSTS.cloneMs * 2);
    expect(pool.status().pools[0]).toMatchObject({ ready: 1, vms: [{ templateId: 't-0' }] });
  });

  it('that comes about by two requests clones from a template that is there', async () => {
    vms.seed(KEY);
    const pool = poolOf({ pool_size: 1, min_idle: 1 }, { warm: [], templates: vms });
    for (const vmId of ['a', 'b']) expect(await pool.take(KEY, to(vmId))).toBe(false);
    await pass(SIM_COSTS.cloneMs * 3);
    expect(pool.status().pools[0]?.vms.map(({ templateId }) => templateId)).toEqual(['t-0', 't-0', 't-0']);
  });

  describe('beside workloads whose guests start', () => {
    let starting = true;
    const yieldToBoots = { isStarting: () => starting, maxMs: 2_000, lookAgainMs: 50 };
    beforeEach(() => {
      starting = true;
    });

    it('makes nothing until none does', async () => {
      const pool = poolOf({ pool_size: 1, min_idle: 1 }, { yieldToBoots });
      await pool.maintain();
      await pass(1_000);
      expect(pool.status().pools[0]).toMatchObject({ ready: 0, creating: 0 });
      starting = false;
      await pass(50);
      expect(pool.status().pools[0]).toMatchObject({ ready: 0, creating: 1 });
    });

    it('makes what it lacks where that takes too long, and gives way anew after a quiet moment', async () => {
      const pool = poolOf({ pool_size: 2, min_idle: 2 }, { yieldToBoots, maxCreating: 1 });
      await pool.maintain();
      await pass(2_000);
      expect(pool.status().pools[0]).toMatchObject({ creating: 1 });
      starting = false;
      await pass(SIM_COSTS.coldMs);
      starting = true;
      await pass(SIM_COSTS.coldMs);
      expect(pool.status().pools[0]).toMatchObject({ ready: 2 });
      expect(await given(pool, 'a')).toBe(true);
      await pass(1_000);
      expect(pool.status().pools[0]).toMatchObject({ ready: 1, creating: 0 });
    });

    it('gives way anew also where nothing was lacking in the quiet moment', async () => {
      starting = false;
      const pool = poolOf({ pool_size: 1, min_idle: 1 }, { yieldToBoots });
      await pool.maintain();
      await pass(SIM_COSTS.coldMs);
      starting = true;
      await pool.maintain();
      await pass(yieldToBoots.maxMs);
      starting = false;
      await pass(yieldToBoots.lookAgainMs);
      starting = true;
      expect(await given(pool, 'a')).toBe(true);
      await pass(yieldToBoots.maxMs / 2);
      expect(pool.status().pools[0]).toMatchObject({ ready: 0, creating: 0 });
    });

    it('gives way for so long and no longer, also where the wall clock is set back', async () => {
      const pool = poolOf({ pool_size: 1, min_idle: 1 }, { yieldToBoots });
      await pool.maintain();
      vi.setSystemTime(Date.now() - 3_600_000);
      await pass(yieldToBoots.maxMs);
      expect(pool.status().pools[0]).toMatchObject({ creating: 1 });
    });

    it('does not begin again once it is stopped', async () => {
      const pool = poolOf({ pool_size: 1, min_idle: 1 }, { yieldToBoots });
      await pool.maintain();
      await pool.stop();
      starting = false;
      await pass(10_000);
      expect(vms.alive.size).toBe(0);
    });
  });

  it('makes no VM for a while after one could not be made, and for no longer where the wall clock is set back', async () => {
    let asked = 0;
    const create: PooledVms['create'] = async () => {
      asked += 1;
      throw new KilnError('BOOT_TIMEOUT', 'too slow');
    };
    const pool = poolOf({ pool_size: 1, min_idle: 1 }, { vms: over({ create }) });
    await pool.maintain();
    await pass(0);
    vi.setSystemTime(Date.now() - 3_600_000);
    await pass(29_999);
    await pool.maintain();
    expect(asked).toBe(1);
    await pass(1);
    await pool.maintain();
    expect(asked).toBe(2);
  });

  it('gives up what is being made when it is stopped', async () => {
    const pool = poolOf({});
    await pool.maintain();
    const stopping = pool.stop();
    await pass(SIM_COSTS.coldMs * 2);
    await stopping;
    expect([vms.alive.size, await pool.take(KEY, to('a'))]).toEqual([0, false]);
  });
});

describe('beside the pool', () => {
  it('its state is written where it has changed, and now and then otherwise', async () => {
    const written: string[] = [];
    let fails = true;
    const pool = poolOf({ pool_size: 1, min_idle: 1 });
    const publish = createPoolPublication(
      () => pool.status(),
      async ({ at }) => {
        if (fails) throw new KilnError('STORE_UNAVAILABLE', 'away');
        written.push(at);
      },
    );
    await expect(publish()).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    fails = false;
    for (let n = 0; n < 3; n++) await publish();
    expect(written).toHaveLength(1);
    await pool.maintain();
    await publish();
    expect(written).toHaveLength(2);
    await pass(SIM_COSTS.coldMs);
    await publish();
    await pass(30_000);
    await publish();
    expect(written).toHaveLength(4);
  });
});
