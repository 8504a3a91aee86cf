import type { HostActivities, PoolActivities } from './activity-types.ts';
import { createBootVm, createProvisionRootfs } from './boot-vm.ts';
import { type BuildPorts, createBuildService } from './build-service.ts';
import { createCheckHealth } from './check-health.ts';
import { createReleaseVm, createStopService } from './leave-vm.ts';
import { createMaintainPool } from './maintain-pool.ts';
import type { HostUpkeep } from './maintenance/maintenance-ports.ts';
import type { HostUpkeepActivities } from './maintenance/maintenance-types.ts';
import { createSweepHost } from './maintenance/sweep-host.ts';
import type { GuestServices, PoolMaintenance } from './ports.ts';
import { createReserveCapacity } from './reserve-capacity.ts';
import { createStartService } from './start-service.ts';
import { createSuperviseVm } from './supervise-vm.ts';
import { createValidateService } from './validate-service.ts';

export interface HostActivityPorts extends BuildPorts {
  readonly services: GuestServices;
  readonly upkeep: HostUpkeep;
  readonly pool: PoolMaintenance;
  /** Pause between two looks at a service that is starting, ms. */
  readonly readyPollMs: number;
}

/** Activities of the queue of one host: they act on its VMs, disks, ports and logs. */
export function createHostActivities(ports: HostActivityPorts): HostActivities & HostUpkeepActivities & PoolActivities {
  return {
    reserveCapacity: createReserveCapacity(ports),
    validateService: createValidateService(ports),
    buildService: createBuildService(ports),
    provisionRootfs: createProvisionRootfs(ports),
    bootVm: createBootVm(ports),
    startService: createStartService(ports),
    checkHealth: createCheckHealth(ports),
    superviseVm: createSuperviseVm(ports),
    stopService: createStopService(ports),
    releaseVm: createReleaseVm(ports),
    sweepHost: createSweepHost(ports),
    maintainPool: createMaintainPool(ports),
  };
}
