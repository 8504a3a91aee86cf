import type { ControlActivities } from './activity-types.ts';
import { createCheckHost } from './check-host.ts';
import { createCloseBooks } from './close-books.ts';
import { createPlaceWorkload } from './place-workload.ts';
import type { ControlLog, HostDirectory, ImageCatalog, WorkloadDocuments } from './ports.ts';

export interface ControlPorts {
  readonly hosts: HostDirectory;
  readonly images: ImageCatalog;
  readonly documents: WorkloadDocuments;
  readonly controlLog: ControlLog;
  readonly now: () => number;
}

/** Activities of the queue `kiln-control`: they need no host. */
export function createControlActivities(ports: ControlPorts): ControlActivities {
  return {
    placeWorkload: createPlaceWorkload(ports),
    checkHost: createCheckHost(ports),
    closeBooks: createCloseBooks(ports),
  };
}
