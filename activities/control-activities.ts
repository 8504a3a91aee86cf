import type { ControlActivities } from './activity-types.ts';
import { createCheckHost } from './check-host.ts';
import { createCloseBooks } from './close-books.ts';
import { createMaintenanceActivities } from './maintenance/maintenance-activities.ts';
import type { MaintenancePorts } from './maintenance/maintenance-ports.ts';
import type { MaintenanceActivities } from './maintenance/maintenance-types.ts';
import { createLeaveLine, createPlaceWorkload, createResolveImage } from './place-workload.ts';
import type { ControlLog, ImageCatalog, WaitingLine, WorkloadDocuments } from './ports.ts';

export interface ControlPorts extends MaintenancePorts {
  readonly images: ImageCatalog;
  readonly line: WaitingLine;
  readonly documents: WorkloadDocuments;
  readonly controlLog: ControlLog;
  readonly now: () => number;
  /** Told how long a workload's request waited for its first activity. */
  readonly onDispatched?: (latencyMs: number) => void;
}

/** Activities of the queue `kiln-control`: they need no host. */
export function createControlActivities(ports: ControlPorts): ControlActivities & MaintenanceActivities {
  return {
    ...createMaintenanceActivities(ports),
    placeWorkload: createPlaceWorkload(ports),
    leaveLine: createLeaveLine(ports),
    resolveImage: createResolveImage(ports),
    checkHost: createCheckHost(ports),
    closeBooks: createCloseBooks(ports),
  };
}
