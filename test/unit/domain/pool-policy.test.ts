import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  chooseClaim,
  chooseYield,
  DEFAULT_POOL_SETTINGS,
  decidePool,
  lowWaterMark,
  type PoolFacts,
  type PoolVm,
  poolReason,
  poolTarget,
  resolvePoolSettings,
  wornBy,
} from '../../../domain/pool/pool-policy.ts';

const NOW = 1_000_000_000;
const MINUTE = 60_000;
const T1 = { templateId: 't1', createdAtMs: NOW - MINUTE };

const vm = (poolVmId: string, more: Partial<PoolVm> = {}): PoolVm => ({
  poolVmId,
  state: 'ready',
  createdAtMs: NOW - MINUTE,
  readySinceMs: NOW - MINUTE,
  execCount: 0,
  template: T1,
  ...more,
});
const facts = (vms: readonly PoolVm[], more: Partial<PoolFacts> = {}): PoolFacts => ({
  nowMs: NOW,
  settings: DEFAULT_POOL_SETTINGS,
  reason: 'standing',
  vms,
  recentRequests: 0,
  recentMisses: 0,
  template: T1,
  refreshing: false,
  filling: false,
  blockedUntilMs: 0,
  ...more,
});
const many = (count: number, more: Partial<PoolVm> = {}) =>
  Array.from({ length: count }, (_, index) => vm(`v${index}`, more));
const causes = (of: PoolFacts) => decidePool(of).recycle.map(({ poolVmId, cause }) => `${poolVmId} ${cause}`);

describe('pool settings', () => {
  it('have these names and defaults', () => {
    expect(DEFAULT_POOL_SETTINGS).toEqual({
      pool_size: 3,
      max_pool_size: 10,
      min_idle: 2,
      max_idle_time: 300_000,
      snapshots: { enabled: true, refresh_interval: 1_800_000, max_age: 21_600_000 },
      max_exec_count: 100,
      max_uptime: 86_400_000,
    });
    expect(resolvePoolSettings()).toEqual(DEFAULT_POOL_SETTINGS);
  });

  it('follow one that was given where nothing else was said', () => {
    expect(resolvePoolSettings({ pool_size: 0 })).toMatchObject({ pool_size: 0, min_idle: 0 });
    expect(resolvePoolSettings({ pool_size: 20 })).toMatchObject({ max_pool_size: 20, min_idle: 2 });
    expect(resolvePoolSettings({ max_pool_size: 1 })).toMatchObject({ pool_size: 1, min_idle: 1 });
  });

  it.each([
    { pool_size: 4, max_pool_size: 3 },
    { pool_size: 1, min_idle: 2 },
    { snapshots: { refresh_interval: 2, max_age: 1 } },
  ])('that contradict each other are refused: %o', (given) => {
    expect(() => resolvePoolSettings(given)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
  });
});

describe('a pool', () => {
  it('is filled up to its size, from a template where there is one', () => {
    expect(decidePool(facts([]))).toMatchObject({ create: 3, from: 'template' });
    const { template: _, ...without } = facts([]);
    expect(decidePool(without)).toMatchObject({ create: 3, from: 'cold' });
  });

  it('does nothing between its low-water mark and its target', () => {
    expect(decidePool(facts(many(2)))).toEqual({ create: 0, from: 'template', recycle: [] });
    expect(decidePool(facts(many(3)))).toEqual({ create: 0, from: 'template', recycle: [] });
    expect(decidePool(facts(many(1))).create).toBe(2);
  });

  it('grows by the requests that found none, and no further than it may', () => {
    const burst = { recentRequests: 9, recentMisses: 4 };
    expect([poolTarget(facts([], burst)), lowWaterMark(facts([], burst))]).toEqual([7, 4]);
    expect(decidePool(facts(many(3), burst)).create).toBe(4);
    expect(decidePool(facts(many(3), { recentRequests: 90, recentMisses: 40 })).create).toBe(7);
  });

  it('goes on with a filling that was begun, up to its target', () => {
    expect(decidePool(facts(many(2), { filling: true })).create).toBe(1);
    expect(decidePool(facts(many(3), { filling: true })).create).toBe(0);
  });

  it('counts what is being made already', () => {
    expect(decidePool(facts([vm('a', { state: 'creating' }), vm('b', { state: 'creating' })])).create).toBe(0);
  });

  it('makes nothing while the host is full', () => {
    expect(decidePool(facts([], { blockedUntilMs: NOW + 1 }))).toMatchObject({ create: 0 });
  });

  it('recycles by uses, uptime and age of the template, whichever comes first', () => {
    const old = { templateId: 't0', createdAtMs: NOW - 6 * 60 * MINUTE };
    const worn = [
      vm('uses', { execCount: 100 }),
      vm('up', { createdAtMs: NOW - 24 * 60 * MINUTE }),
      vm('aged', { template: old }),
    ];
    expect(causes(facts([...many(2), ...worn]))).toEqual(['uses exec-count', 'up uptime', 'aged template-age']);
  });

  it('recycles what was idle too long, down to its floor, and leaves the rest', () => {
    const idle = many(4, { readySinceMs: NOW - 5 * MINUTE });
    expect(causes(facts(idle))).toEqual(['v0 idle', 'v1 idle']);
    expect(causes(facts(idle, { recentRequests: 1 }))).toEqual(['v0 idle']);
    expect(causes(facts(many(2, { readySinceMs: 0 })))).toEqual([]);
  });

  it('drains where its tag has moved on, nobody wants it, or it is switched off', () => {
    expect(causes(facts(many(1), { reason: 'superseded' }))).toEqual(['v0 image-replaced']);
    expect(causes(facts(many(1), { reason: 'unused' }))).toEqual(['v0 unused']);
    expect(causes(facts(many(1), { settings: resolvePoolSettings({ pool_size: 0 }) }))).toEqual(['v0 unused']);
  });

  it('keeps clones of an older template until enough new ones are there', () => {
    const t2 = { templateId: 't2', createdAtMs: NOW };
    const of = (vms: PoolVm[]) => decidePool(facts(vms, { template: t2 }));
    expect(of(many(3))).toMatchObject({ create: 3, recycle: [] });
    const both = [...many(3), vm('n1', { template: t2 }), vm('n2', { template: t2 })];
    expect(of(both).recycle.map(({ cause }) => cause)).toEqual(Array(3).fill('template-replaced'));
    // There is no room for new VMs beside the old ones.
    expect(of(many(10)).recycle).toHaveLength(2);
  });
});

describe('templates', () => {
  const aged = (ageMs: number) => ({ template: { templateId: 't1', createdAtMs: NOW - ageMs } });
  const refreshOf = (vms: readonly PoolVm[], more: Partial<PoolFacts>) => decidePool(facts(vms, more)).refresh;

  it('are made of an idle VM that booted cold', () => {
    const { template: _, ...without } = facts([]);
    const cold = [vm('a'), vm('b')].map(({ template: __, ...rest }) => rest);
    expect(decidePool({ ...without, vms: cold }).refresh).toEqual({ cause: 'missing', source: 'a' });
    expect(decidePool({ ...without, vms: [] }).refresh).toBeUndefined();
  });

  it('are made anew by age: when nothing goes on, and in any case when they are too old', () => {
    expect(refreshOf(many(2), aged(29 * MINUTE))).toBeUndefined();
    expect(refreshOf(many(2), aged(30 * MINUTE))).toEqual({ cause: 'interval' });
    expect(refreshOf([...many(2), vm('x', { state: 'claiming' })], aged(30 * MINUTE))).toBeUndefined();
    expect(refreshOf([vm('x', { state: 'creating' })], aged(360 * MINUTE))).toEqual({ cause: 'age' });
    expect(refreshOf(many(2), { ...aged(360 * MINUTE), refreshing: true })).toBeUndefined();
  });

  it('are left alone where they are switched off', () => {
    const settings = resolvePoolSettings({ snapshots: { enabled: false } });
    expect(decidePool(facts([], { ...aged(360 * MINUTE), settings }))).toMatchObject({ create: 3, from: 'cold' });
    expect(refreshOf([], { ...aged(360 * MINUTE), settings })).toBeUndefined();
  });
});

describe('who gets and who goes', () => {
  it('hands out the oldest of the newest template, and nothing that is worn', () => {
    const t2 = { templateId: 't2', createdAtMs: NOW };
    const vms = [
      vm('old', { readySinceMs: 1 }),
      vm('n2', { template: t2 }),
      vm('n1', { template: t2, readySinceMs: 2 }),
    ];
    expect(chooseClaim({ ...facts(vms), template: t2 })?.poolVmId).toBe('n1');
    expect(chooseClaim({ ...facts([vm('old')]), template: t2 })?.poolVmId).toBe('old');
    expect(chooseClaim(facts([vm('a', { execCount: 100 }), vm('b', { state: 'creating' })]))).toBeUndefined();
  });

  it('gives up what nobody wants first, then what is more than the floor, then the oldest', () => {
    const candidate = { reason: 'standing' as const, surplus: 0, readySinceMs: 5 };
    const of = [
      { ...candidate, poolVmId: 'kept' },
      { ...candidate, poolVmId: 'surplus', surplus: 2, readySinceMs: 9 },
      { ...candidate, poolVmId: 'asked', reason: 'asked' as const },
    ];
    expect(chooseYield(of)).toBe('asked');
    expect(chooseYield(of.slice(0, 2))).toBe('surplus');
    expect(chooseYield([])).toBeUndefined();
  });

  it('one request alone makes no pool', () => {
    const reasons = [0, 1, 2].map((recentRequests) =>
      poolReason({ standing: false, superseded: false, recentRequests }),
    );
    expect(reasons).toEqual(['unused', 'unused', 'asked']);
    expect(poolReason({ standing: false, superseded: true, recentRequests: 1 })).toBe('superseded');
    // A workload that pins the older image keeps its pool.
    expect(poolReason({ standing: false, superseded: true, recentRequests: 2 })).toBe('asked');
  });
});

const anyVm = fc.record({
  poolVmId: fc.uuid(),
  state: fc.constantFrom('creating' as const, 'ready' as const, 'claiming' as const, 'leaving' as const),
  createdAtMs: fc.integer({ min: NOW - 30 * 60 * MINUTE, max: NOW }),
  readySinceMs: fc.integer({ min: NOW - 10 * MINUTE, max: NOW }),
  execCount: fc.constantFrom(0, 0, 0, 100),
  template: fc.constantFrom(
    T1,
    { templateId: 't0', createdAtMs: NOW - 7 * 60 * MINUTE },
    { templateId: 'tx', createdAtMs: NOW - MINUTE },
  ),
});
const anyFacts = fc
  .record({
    vms: fc.uniqueArray(anyVm, { selector: ({ poolVmId }) => poolVmId, maxLength: 16 }),
    reason: fc.constantFrom('standing' as const, 'asked' as const, 'superseded' as const, 'unused' as const),
    recentRequests: fc.nat(20),
    missShare: fc.double({ min: 0, max: 1, noNaN: true }),
    pool_size: fc.nat(6),
    blocked: fc.boolean(),
    filling: fc.boolean(),
  })
  .map(({ vms, reason, recentRequests, missShare, pool_size, blocked, filling }) =>
    facts(vms, {
      reason,
      filling,
      recentRequests,
      recentMisses: Math.floor(recentRequests * missShare),
      settings: resolvePoolSettings({ pool_size }),
      blockedUntilMs: blocked ? NOW + 1 : 0,
    }),
  );

/** The pool once every decision has been carried out, at the same moment. */
function carriedOut(before: PoolFacts): PoolFacts {
  const { create, recycle } = decidePool(before);
  const gone = new Set(recycle.map(({ poolVmId }) => poolVmId));
  const made = Array.from({ length: create }, (_, index) =>
    vm(`made-${index}-${before.vms.length}`, { createdAtMs: NOW, readySinceMs: NOW }),
  );
  const kept = before.vms
    .filter(({ poolVmId, state }) => !gone.has(poolVmId) && state !== 'leaving' && state !== 'claiming')
    .map((one) =>
      one.state === 'creating'
        ? { ...one, state: 'ready' as const, createdAtMs: NOW, readySinceMs: NOW, execCount: 0, template: T1 }
        : one,
    );
  return { ...before, vms: [...kept, ...made] };
}

describe('whatever the facts', () => {
  it('only ready VMs are recycled, each once, and a pool never grows beyond its bound', () => {
    fc.assert(
      fc.property(anyFacts, (given) => {
        const { create, recycle } = decidePool(given);
        const ready = new Set(given.vms.filter(({ state }) => state === 'ready').map(({ poolVmId }) => poolVmId));
        expect(recycle.every(({ poolVmId }) => ready.has(poolVmId))).toBe(true);
        expect(new Set(recycle.map(({ poolVmId }) => poolVmId)).size).toBe(recycle.length);
        const held = given.vms.filter(({ state }) => state === 'ready' || state === 'creating').length;
        if (create > 0) expect(held - recycle.length + create).toBeLessThanOrEqual(given.settings.max_pool_size);
        if (given.reason === 'unused' || given.reason === 'superseded' || given.settings.pool_size === 0) {
          expect([create, recycle.length]).toEqual([0, ready.size]);
        }
      }),
    );
  });

  it('what is decided settles: after at most three rounds nothing is left to do', () => {
    fc.assert(
      fc.property(anyFacts, (given) => {
        const settled = carriedOut(carriedOut(carriedOut(given)));
        expect(decidePool(settled)).toMatchObject({ create: 0, recycle: [] });
      }),
    );
  });

  it('no VM is handed out beyond its limits', () => {
    fc.assert(
      fc.property(anyFacts, (given) => {
        const chosen = chooseClaim(given);
        if (chosen !== undefined) expect([chosen.state, wornBy(chosen, given)]).toEqual(['ready', undefined]);
      }),
    );
  });

  it('without requests, time makes no VM but in the place of one that is worn', () => {
    fc.assert(
      fc.property(fc.nat(10), fc.array(fc.integer({ min: 1, max: 20 * MINUTE }), { maxLength: 40 }), (count, steps) => {
        let now = NOW;
        let state = carriedOut(facts(many(count)));
        let made = 0;
        for (const step of steps) {
          now += step;
          const at = { ...state, nowMs: now, template: { templateId: 't1', createdAtMs: now } };
          const fresh = at.vms.map((one) => ({ ...one, createdAtMs: now, template: at.template }));
          made += decidePool({ ...at, vms: fresh }).create;
          state = { ...carriedOut({ ...at, vms: fresh }), nowMs: now };
        }
        expect(made).toBe(0);
        expect(state.vms.length).toBeGreaterThanOrEqual(2);
      }),
    );
  });
});
