import { patched } from '@temporalio/workflow';
import { type ActivityVerdict, CodedFailure, judge } from '../activity-verdict.ts';

/** As `judge`, also for what Kiln's own code in the workflow has thrown: a host that is lost, room that never came. */
export function verdictOn(error: unknown): ActivityVerdict {
  if (!(error instanceof CodedFailure)) return judge(error);
  // Older executions took these for defects, and are replayed so.
  return patched('own-failures') ? { kind: 'failure', ...error.failure } : judge(error);
}
