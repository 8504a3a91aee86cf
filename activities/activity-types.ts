/**
 * Signatures of all activities, grouped by task queue. Defined by subject, so that workflows import small types and
 * editors stay fast. One object in, one object out; the workflow mints the names; every call may happen twice.
 */
import type { PlacementActivities } from './placement/placement-types.ts';
import type { VmActivities } from './vm/vm-types.ts';
import type { BookActivities, ServiceActivities } from './workload/service-types.ts';

/** Queue `kiln-control`; those of maintenance are in `maintenance/`. */
export interface ControlActivities extends PlacementActivities, BookActivities {}

/** The queue of one host; those of its pool and its upkeep are in `pool/` and `maintenance/`. */
export interface HostActivities extends VmActivities, ServiceActivities {}
