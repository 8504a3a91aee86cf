import type { PoolMaintenance, VmHost } from '../ports/host.ts';
import type { OwnerLogs } from '../ports/logs.ts';
import type { HostUpkeep } from '../ports/maintenance.ts';
import type { SessionPorts } from '../ports/runs.ts';
import type { GuestServices } from '../ports/services.ts';
import { short } from './activity-frame.ts';
import type { HostActivities } from './activity-types.ts';
import { type BuildPorts, createBuildService } from './building/build-service.ts';
import type { HostUpkeepActivities } from './maintenance/maintenance-types.ts';
import { createSweepHost } from './maintenance/sweep-host.ts';
import { createReserveCapacity } from './placement/reserve-capacity.ts';
import { createMaintainPool } from './pool/maintain-pool.ts';
import type { PoolActivities } from './pool/pool-types.ts';
import { createPauseVm, createResumeVm, createSetEgress } from './session/pause-vm.ts';
import { createCancelRun, createRunTurn } from './session/run-turn.ts';
import type { SessionHostActivities } from './session/session-types.ts';
import { createRestoreWorkspace, createSaveWorkspace, createUploadSaves } from './session/workspace-saves.ts';
import { createBootVm, createProvisionRootfs } from './vm/boot-vm.ts';
import { createReleaseVm } from './vm/release-vm.ts';
import { callerOf, ownerOfCall } from './vm/vm-call.ts';
import type { VmCall } from './vm/vm-types.ts';
import { createCheckHealth } from './workload/check-health.ts';
import { createStartService } from './workload/start-service.ts';
import { createStopService } from './workload/stop-service.ts';
import { createSuperviseVm } from './workload/supervise-vm.ts';
import { createValidateService } from './workload/validate-service.ts';

export interface HostActivityPorts extends BuildPorts {
  readonly services: GuestServices;
  readonly upkeep: HostUpkeep;
  readonly pool: PoolMaintenance;
  readonly sessions: SessionPorts;
  /** Pause between two checks of a service that is starting, ms. */
  readonly readyPollMs: number;
}

type AllHostActivities = HostActivities & HostUpkeepActivities & PoolActivities & SessionHostActivities;

/** Activities of the queue of one host: they act on its VMs, disks, ports and logs. */
export function createHostActivities(ports: HostActivityPorts): AllHostActivities {
  const unguarded = attendedBy(ports.logs);
  const attended = guardedBy(ports.vms, unguarded);
  return {
    reserveCapacity: createReserveCapacity(ports),
    validateService: attended(createValidateService(ports)),
    buildService: attended(createBuildService(ports)),
    // It is how a VM comes to its owner: what is left of an earlier one goes first.
    provisionRootfs: unguarded(createProvisionRootfs(ports)),
    bootVm: attended(createBootVm(ports)),
    startService: attended(createStartService(ports)),
    checkHealth: attended(createCheckHealth(ports)),
    superviseVm: attended(createSuperviseVm(ports)),
    stopService: attended(createStopService(ports)),
    releaseVm: attended(createReleaseVm(ports)),
    sweepHost: createSweepHost(ports),
    maintainPool: createMaintainPool(ports),
    runTurn: attended(createRunTurn(ports.sessions)),
    cancelRun: attended(createCancelRun(ports.sessions)),
    pauseVm: attended(createPauseVm(ports.sessions)),
    resumeVm: attended(createResumeVm(ports.sessions)),
    setEgress: attended(createSetEgress(ports.sessions)),
    saveWorkspace: attended(createSaveWorkspace(ports.sessions.saves)),
    uploadSaves: attended(createUploadSaves(ports.sessions.saves)),
    restoreWorkspace: attended(createRestoreWorkspace(ports.sessions.saves)),
  };
}

/** Refuses a call about a VM that belongs to another workflow, or to another placement of this one. */
function guardedBy(vms: Pick<VmHost, 'assertOwner'>, attended: ReturnType<typeof attendedBy>) {
  return <Input extends VmCall, Output>(activity: (input: Input) => Promise<Output>) =>
    attended(async (input: Input): Promise<Output> => {
      if ('vmId' in input && typeof input.vmId === 'string') {
        const { vmId } = input;
        await short(() => vms.assertOwner(vmId, callerOf(input)));
      }
      return activity(input);
    });
}

/** Notifies readers of an owner's log when one of its activities begins or ends: the stage changes at those times. */
function attendedBy(logs: Pick<OwnerLogs, 'attend'>) {
  return <Input extends VmCall, Output>(activity: (input: Input) => Promise<Output>) =>
    async (input: Input): Promise<Output> => {
      const leave = logs.attend(ownerOfCall(input));
      try {
        return await activity(input);
      } finally {
        leave();
      }
    };
}
