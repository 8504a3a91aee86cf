import { describe, expect, it } from 'vitest';
import { createMemoryGauge, defaultFloorMib } from '../../../../host/capacity/memory-gauge.ts';
import type { VmUsage } from '../../../../ports/vm-driver.ts';
import { silentLogger } from '../../../support/workers/silent-logger.ts';

const MIB = 1024 * 1024;
const used = (more: Partial<VmUsage>): VmUsage => ({ source: 'process', cpuMs: 0, memoryBytes: 100 * MIB, ...more });

describe('the memory of a host', () => {
  it('is what the kernel could give, and what the VMs share of it, measured now and then', async () => {
    let now = 0;
    let available = 3000 * MIB;
    let rounds = 0;
    const gauge = createMemoryGauge({
      driver: {
        list: async () => {
          rounds += 1;
          return ['a', 'b', 'gone', 'unreadable'];
        },
        usage: async (vmId) => {
          if (vmId === 'unreadable') throw new Error('no rights');
          return vmId === 'gone' ? undefined : used(vmId === 'a' ? { shareBytes: 40 * MIB } : {});
        },
      },
      everyMs: 1000,
      floorMib: 512,
      logger: silentLogger,
      available: () => available,
      now: () => now,
    });
    expect(await gauge.read()).toEqual({ availableMib: 3000, floorMib: 512, vmsMib: 140 });
    available = 500 * MIB;
    now = 999;
    expect(await gauge.read()).toEqual({ availableMib: 500, floorMib: 512, vmsMib: 140 });
    expect([gauge.allowsMore(), rounds]).toEqual([false, 1]);
    now = 1000;
    await gauge.read();
    expect(rounds).toBe(2);
  });

  it('is measured the less often the longer that takes', async () => {
    let now = 0;
    let rounds = 0;
    const driver = {
      list: async () => {
        rounds += 1;
        now += 30;
        return [];
      },
      usage: async () => undefined,
    };
    const gauge = createMemoryGauge({ driver, everyMs: 1000, logger: silentLogger, now: () => now });
    await gauge.read();
    now += 2_999;
    await gauge.read();
    expect(rounds).toBe(1);
    now += 1;
    await gauge.read();
    expect(rounds).toBe(2);
  });

  it('keeps a twentieth of the machine, and no more than a gibibyte', () => {
    expect([defaultFloorMib(4096 * MIB), defaultFloorMib(262_144 * MIB)]).toEqual([204, 1024]);
  });
});
