/** Builds the pool of a host: its parts, and what it can do with this driver. */

import type { Registry } from 'prom-client';
import { defined } from '../../domain/defined.ts';
import { resolvePoolSettings } from '../../domain/pool/pool-policy.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import type { HostCapacityLedger } from '../capacity/ledger.ts';
import type { HostLogger } from '../host-logger.ts';
import type { Templates } from '../templates/template-store.ts';
import type { HostVms } from '../vms/vm-host.ts';
import { createDriverPooledVms } from './driver-pooled-vms.ts';
import { createPoolMetrics } from './pool-metrics.ts';
import type { PoolMeans } from './pool-ports.ts';
import type { HostPoolSettings } from './pool-settings.ts';
import { poolMeansOf } from './pool-templates.ts';
import { createVmPool, type VmPool } from './vm-pool.ts';

export interface HostPoolOptions {
  readonly hostId: string;
  readonly stateDir: string;
  readonly driver: VmDriver;
  readonly records: InstanceStore;
  readonly vms: Pick<HostVms, 'provision' | 'release' | 'starting'>;
  readonly ledger: HostCapacityLedger;
  /** Absent where the driver starts every guest cold. */
  readonly templates: Templates | undefined;
  readonly settings: HostPoolSettings;
  readonly resolveImage: (reference: string) => Promise<string>;
  /** Absent: what driver and templates can do. */
  readonly means: PoolMeans | undefined;
  /** Gets the pool's metrics. */
  readonly registry: Registry;
  readonly logger: HostLogger;
}

/** @returns the pool of a host over its driver. @throws CONFIG_INVALID where its settings contradict each other */
export function createHostPool(options: HostPoolOptions): VmPool {
  const { hostId, stateDir, driver, records, vms, ledger, logger, resolveImage } = options;
  const { limits, warm, claimWaitMs, maxCreating, blockedMs, yieldToBoots, bootMs, reservationTtlMs } =
    options.settings;
  const means = options.means ?? { pausing: driver, ...poolMeansOf(options.templates) };
  const pool: VmPool = createVmPool({
    hostId,
    settings: resolvePoolSettings(limits),
    warm,
    vms: createDriverPooledVms({
      hostId,
      stateDir,
      driver,
      records,
      vms,
      ledger,
      means,
      bootMs,
      reservationTtlMs,
    }),
    ...defined({ templates: means.templates }),
    resolveImage,
    claimWaitMs,
    maxCreating,
    blockedMs,
    yieldToBoots: { ...yieldToBoots, isStarting: () => vms.starting > 0 },
    logger,
    notes: createPoolMetrics(options.registry, () => pool.status()),
  });
  return pool;
}
