/** What a host may give to VMs: the ledger of reservations, and the memory that really exists. */

import type { HostCapacity } from '../../domain/capacity/host-entry.ts';
import { defined } from '../../domain/defined.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import type { HostLogger } from '../host-logger.ts';
import { createCapacityLedger, type HostCapacityLedger, type Reservation } from './ledger.ts';
import { createMemoryGauge, type MemoryGauge } from './memory-gauge.ts';

export interface HostCapacitySettings {
  /** Cost of a VM beyond its guest's memory, MiB: the translation buffer (256) and the VMM itself (60). */
  readonly vmOverheadMib: number;
  /** Pause between two measurements of what the VMMs use, ms. */
  readonly measureEveryMs: number;
  /** Memory of the machine that must stay available, MiB; absent: a twentieth of it, at most 1024. */
  readonly floorMib?: number;
}

export interface HostCapacityOptions {
  readonly stateDir: string;
  readonly driver: Pick<VmDriver, 'list' | 'usage'>;
  /** All that guests and their VMMs may use. */
  readonly capacity: HostCapacity;
  readonly settings: HostCapacitySettings;
  readonly logger: HostLogger;
}

export interface HostCapacityRoom {
  readonly ledger: HostCapacityLedger;
  readonly memory: MemoryGauge;
}

export function createHostCapacity(options: HostCapacityOptions): HostCapacityRoom {
  const { stateDir, driver, capacity, settings, logger } = options;
  const { vmOverheadMib, measureEveryMs, floorMib } = settings;
  const memory = createMemoryGauge({
    driver,
    everyMs: measureEveryMs,
    logger,
    ...defined({ floorMib }),
  });
  const ledger = createCapacityLedger({
    stateDir,
    capacity,
    vmOverheadMib,
    lookAtVms: () => lookAtVms(driver),
    hasMemory: () => memory.allowsMore(),
  });
  return { ledger, memory };
}

/** A reservation is named by the placement, or by the builder VM itself: its name is the VM's, or the beginning of it. */
async function lookAtVms(driver: Pick<VmDriver, 'list'>): Promise<(reservation: Reservation) => boolean> {
  const used = new Set<string>();
  for (const vmId of await driver.list()) {
    used.add(vmId);
    for (let end = vmId.indexOf('-'); end >= 0; end = vmId.indexOf('-', end + 1)) used.add(vmId.slice(0, end));
  }
  return ({ id }) => used.has(id);
}
