import type { MaintenancePorts } from '../../ports/maintenance.ts';
import type { MaintenanceActivities } from './maintenance-types.ts';
import { createPlanSweeps } from './plan-sweeps.ts';
import { createPrune } from './prune.ts';
import { createRecorderPosition, createRecordHistories } from './record-histories.ts';

/** Activities of maintenance on the queue `kiln-control`. */
export function createMaintenanceActivities(ports: MaintenancePorts): MaintenanceActivities {
  return {
    ...createRecorderPosition(ports),
    recordHistories: createRecordHistories(ports),
    planSweeps: createPlanSweeps(ports),
    ...createPrune(ports),
  };
}
