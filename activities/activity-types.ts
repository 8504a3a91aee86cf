/**
 * Signatures of every activity, put together by the queue that they are on. Spelled out by subject, so that workflows
 * import small types and editors stay fast. One object in, one object out; names are minted by the workflow; every call
 * may happen twice.
 */
import type { PlacementActivities } from './placement/placement-types.ts';
import type { VmActivities } from './vm/vm-types.ts';
import type { BookActivities, ServiceActivities } from './workload/service-types.ts';

/** Queue `kiln-control`; those of maintenance are in `maintenance/`. */
export interface ControlActivities extends PlacementActivities, BookActivities {}

/** The queue of one host; those of its pool and its upkeep are in `pool/` and `maintenance/`. */
export interface HostActivities extends VmActivities, ServiceActivities {}
