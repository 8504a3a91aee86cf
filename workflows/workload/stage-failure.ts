import { defined } from '../../domain/defined.ts';
import type { FailureCode } from '../../domain/failures.ts';
import type { Stage } from '../../domain/workload/stages.ts';
import type { WorkloadFailure } from '../../domain/workload/workload.ts';
import { CodedFailure, codedError, judge } from '../activity-verdict.ts';

/** @returns the workload's failure for an error seen in `stage`; a time-out takes the code that the stage gives it. */
export function stageFailure(error: unknown, stage: Stage, timeoutCode: FailureCode = 'TIMED_OUT'): WorkloadFailure {
  const { code, message, stack } = codedError(error, timeoutCode);
  const isTimeout = !(error instanceof CodedFailure) && judge(error).kind === 'timeout';
  const text = isTimeout ? `${stage}: ${message}` : message;
  return { code, message: text, stage, ...defined({ stack }) };
}
