import type { PlacementActivities } from '../../activities/placement/placement-types.ts';
import type { VmActivities } from '../../activities/vm/vm-types.ts';
import type { PlacedPolicies } from '../../domain/policies.ts';
import type { HostCalls } from './host-calls.ts';
import type { PlacedOwner, PlacedProgress } from './placed-owner.ts';
import type { Placements } from './placements.ts';

/** All that the pieces of this folder share for one owner. */
export interface PlacedContext<Host extends VmActivities = VmActivities> {
  readonly owner: PlacedOwner;
  readonly policies: PlacedPolicies;
  readonly progress: PlacedProgress;
  readonly control: PlacementActivities;
  readonly calls: HostCalls;
  readonly placements: Placements<Host>;
}
