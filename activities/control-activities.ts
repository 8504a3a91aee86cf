import type { WaitingLine, WorkloadDocuments } from '../ports/documents.ts';
import type { ImageCatalog } from '../ports/images.ts';
import type { ControlLog } from '../ports/logs.ts';
import type { MaintenancePorts } from '../ports/maintenance.ts';
import type { ControlActivities } from './activity-types.ts';
import { createMaintenanceActivities } from './maintenance/maintenance-activities.ts';
import type { MaintenanceActivities } from './maintenance/maintenance-types.ts';
import { createCheckHost } from './placement/check-host.ts';
import { createLeaveLine, createPlaceWorkload, createResolveImage } from './placement/place-workload.ts';
import { createSessionBooks, type SessionBookPorts } from './session/session-books.ts';
import type { SessionBookActivities } from './session/session-types.ts';
import { createCloseBooks } from './workload/close-books.ts';

export interface ControlPorts extends MaintenancePorts {
  readonly images: ImageCatalog;
  readonly line: WaitingLine;
  readonly documents: WorkloadDocuments;
  readonly controlLog: ControlLog;
  readonly sessionBooks: SessionBookPorts;
  readonly now: () => number;
  /** Receives how long a workload's request waited for its first activity. */
  readonly onDispatched?: (latencyMs: number) => void;
}

type AllControlActivities = ControlActivities & MaintenanceActivities & SessionBookActivities;

/** Activities of the queue `kiln-control`: they need no host. */
export function createControlActivities(ports: ControlPorts): AllControlActivities {
  return {
    ...createMaintenanceActivities(ports),
    placeWorkload: createPlaceWorkload(ports),
    leaveLine: createLeaveLine(ports),
    resolveImage: createResolveImage(ports),
    checkHost: createCheckHost(ports),
    closeBooks: createCloseBooks(ports),
    ...createSessionBooks(ports.sessionBooks),
  };
}
