import { short } from './activity-frame.ts';
import type { ControlActivities } from './activity-types.ts';
import type { ControlLog, WorkloadDocuments } from './ports.ts';

/** Writes the control writer's log lines and the outcome. Both are written at most once, however often this runs. */
export function createCloseBooks(ports: {
  documents: WorkloadDocuments;
  controlLog: ControlLog;
}): ControlActivities['closeBooks'] {
  return ({ state, logLines }) =>
    short(async () => {
      for (const line of logLines) await ports.controlLog.append({ workloadId: state.workloadId, ...line });
      await ports.documents.writeResult(state);
    });
}
