import { project as projectLifecycle, type RecordedEvent } from '../lifecycle/projector.ts';
import type { StageLedger } from './reducer.ts';
import { WORKLOAD_LIFECYCLE } from './stages.ts';

export type { RecordedEvent } from '../lifecycle/projector.ts';

/**
 * Checks the recorded history of a workload with the rules that its workflow followed.
 * @returns the moves that it records
 * @throws KilnError INVALID_TRANSITION where the history breaks these rules
 */
export function project(events: readonly RecordedEvent[]): StageLedger {
  const { state, moves } = projectLifecycle(WORKLOAD_LIFECYCLE, events);
  return { stage: state, moves };
}
