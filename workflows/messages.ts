import { defineQuery, defineSignal } from '@temporalio/workflow';
import type { PoolProgress } from '../domain/pool/pool-round.ts';
import type { MaintenanceReport } from '../domain/upkeep/maintenance.ts';
import type { WorkloadState } from '../domain/workload/workload.ts';
import type { StopRequest } from '../domain/workload/workload-input.ts';

export const WORKLOAD_WORKFLOW = 'workloadWorkflow';

/** Stops a workload; idempotent, payload optional. */
export const stopSignal = defineSignal<[StopRequest?]>('stop');

/** The whole state of a workload, as its workflow sees it now. */
export const workloadQuery = defineQuery<WorkloadState>('workload');

export const MAINTENANCE_WORKFLOW = 'maintenanceWorkflow';

/** What a run of the maintenance has done so far. */
export const maintenanceQuery = defineQuery<MaintenanceReport>('maintenance');
export const POOL_WORKFLOW = 'poolWorkflow';

/** Starts a round of a pool's maintenance now. */
export const maintainSignal = defineSignal('maintain');

/** What the last round found. */
export const poolQuery = defineQuery<PoolProgress>('pool');
