import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { keyOfKind, recordedBursts, type SimulationOptions, simulate } from '../../../support/host/pool-simulation.ts';

beforeEach(() => {
  vi.useFakeTimers({ now: Date.parse('2026-01-01T00:00:00Z') });
});
afterEach(() => {
  vi.useRealTimers();
});

const load = recordedBursts();
const WARM = [{ image: 'node', vcpus: 1, memMib: keyOfKind('a').memMib, projectId: 'project-a' }];
const play = (options: Partial<SimulationOptions>) =>
  simulate({
    load,
    limits: {},
    warm: WARM,
    advance: async (ms) => void (await vi.advanceTimersByTimeAsync(ms)),
    ...options,
  });

describe('500 recorded requests in bursts', () => {
  it('are mostly served by a pool with the settings that hold by default, and make it thrash nowhere', async () => {
    const report = await play({});
    const { requests, hits, waits, misses, created, destroyed } = report;
    expect([requests, hits + waits + misses]).toEqual([500, 500]);
    expect((hits + waits) / requests).toBeGreaterThan(0.75);
    // Almost all VMs that are made are handed out; only a change of demand leaves some over.
    expect(created - hits - waits).toBeLessThan(requests * 0.25);
    expect(destroyed).toBeLessThanOrEqual(created - hits - waits);
    expect(report.mostReady).toBeLessThanOrEqual(5 * 10);
    // After the silence only the configured pool is left, and it is at its minimum.
    expect(report.left.pools.map(({ reason, ready }) => [reason, ready])).toEqual([['standing', 2]]);
  });

  it('use no VM beyond its age, and none of a template beyond that one’s', async () => {
    const limits = {
      max_uptime: 120_000,
      snapshots: { enabled: true, refresh_interval: 30_000, max_age: 90_000 },
    };
    const report = await play({ limits });
    expect(report.oldestClaimMs).toBeLessThan(120_000);
    expect(report.templatesMade).toBeGreaterThan(10);
    expect((report.recycled['uptime'] ?? 0) + (report.recycled['template-age'] ?? 0)).toBeGreaterThan(0);
  });

  it('are served as well without templates, only later', async () => {
    const [cold, cloned] = [await play({ withTemplates: false }), await play({})];
    expect(cold.templatesMade).toBe(0);
    expect(cold.hits + cold.waits).toBeGreaterThan(0);
    const median = ({ latenciesMs }: typeof cold) => latenciesMs[250] ?? 0;
    expect(median(cloned)).toBeLessThanOrEqual(median(cold));
  });

  it('get the room that ready VMs hold on a host that is full', async () => {
    const report = await play({ places: 20 });
    expect(report.recycled['capacity']).toBeGreaterThan(0);
    expect(report.hits + report.waits + report.misses).toBe(500);
  });

  it('find nothing and leave nothing where the pool is switched off', async () => {
    const report = await play({ limits: { pool_size: 0 } });
    expect([report.hits, report.created, report.left.enabled]).toEqual([0, 0, false]);
  });
});
