/** The pool of a host, put together: what it is made of, and what the rest of the host has to know of it. */

import type { KilnError } from '../../domain/failures.ts';
import { type PoolTemplate, resolvePoolSettings } from '../../domain/pool/pool-policy.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import type { HostCapacityLedger } from '../capacity/ledger.ts';
import type { HostLogger } from '../host-logger.ts';
import type { HostSettings } from '../host-settings.ts';
import type { HostVms } from '../vms/vm-host.ts';
import { createDriverPooledVms, type PausingVms, type PoolBoot } from './driver-pooled-vms.ts';
import type { PoolNotes } from './pool-filling.ts';
import type { PoolTemplates } from './pool-ports.ts';
import { createVmPool, type VmPool } from './vm-pool.ts';

/** What a pool can do depends on the driver: what is absent, it does without. */
export interface PoolMeans {
  readonly pausing?: PausingVms;
  readonly templates?: PoolTemplates;
  readonly boot?: PoolBoot;
  readonly templateOf?: (templateId: string) => Promise<PoolTemplate | undefined>;
  readonly blameTemplate?: (templateId: string, failure: KilnError) => Promise<void>;
}

export interface HostPoolOptions {
  readonly hostId: string;
  readonly stateDir: string;
  readonly driver: VmDriver;
  readonly records: InstanceStore;
  readonly vms: Pick<HostVms, 'provision' | 'release' | 'starting'>;
  readonly ledger: HostCapacityLedger;
  readonly settings: HostSettings['pool'];
  readonly resolveImage: (reference: string) => Promise<string>;
  readonly means?: PoolMeans;
  readonly notes?: PoolNotes;
  readonly logger: HostLogger;
}

/** @returns the pool of a host over its driver. @throws CONFIG_INVALID where its settings contradict each other */
export function createHostPool(options: HostPoolOptions): VmPool {
  const { hostId, logger, resolveImage, means = {}, settings } = options;
  const { warm, claimWaitMs, maxCreating, blockedMs, giveWay, bootMs, reservationTtlMs } = settings;
  return createVmPool({
    ...{ hostId, logger, resolveImage, warm, claimWaitMs, maxCreating, blockedMs },
    giveWay: { ...giveWay, isStarting: () => options.vms.starting > 0 },
    settings: resolvePoolSettings(settings.limits),
    vms: createDriverPooledVms({ ...options, ...means, bootMs, reservationTtlMs }),
    ...(means.templates === undefined ? {} : { templates: means.templates }),
    ...(options.notes === undefined ? {} : { notes: options.notes }),
  });
}
