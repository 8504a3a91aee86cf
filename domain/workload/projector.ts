import { project as projectLifecycle, type RecordedEvent } from '../lifecycle/projector.ts';
import type { StageLedger } from './reducer.ts';
import { WORKLOAD_LIFECYCLE } from './stages.ts';

export type { RecordedEvent } from '../lifecycle/projector.ts';

/**
 * Judges the recorded history of a workload with the rules the workflow itself ran under.
 * @returns the moves it records
 * @throws KilnError INVALID_TRANSITION where it is not the history of a lawful workload
 */
export function project(events: readonly RecordedEvent[]): StageLedger {
  const { state, moves } = projectLifecycle(WORKLOAD_LIFECYCLE, events);
  return { stage: state, moves };
}
