import { isKilnError, KilnError } from '../../domain/failures.ts';
import type { WorkloadDocuments } from '../../ports/documents.ts';
import type { ControlLog } from '../../ports/logs.ts';
import { short } from '../activity-frame.ts';
import type { ControlActivities } from '../activity-types.ts';

/**
 * Writes the control writer's log lines and the outcome, each at most once, however often this runs. Every failure is
 * retried: the workflow stays open until the record is written.
 */
export function createCloseBooks(ports: {
  documents: WorkloadDocuments;
  controlLog: ControlLog;
}): ControlActivities['closeBooks'] {
  return ({ state, logLines }) =>
    short(async () => {
      try {
        for (const line of logLines) await ports.controlLog.append({ workloadId: state.workloadId, ...line });
        await ports.documents.writeResult(state);
      } catch (error) {
        throw asRetryable(error);
      }
    });
}

/** The books must be closed, so every failure is retried. */
function asRetryable(error: unknown): unknown {
  if (!isKilnError(error) || error.retryable) return error;
  const { code, message, details } = error;
  return new KilnError('STORE_UNAVAILABLE', message, { ...details, code }, error);
}
