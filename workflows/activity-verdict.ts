import {
  ActivityFailure,
  ApplicationFailure,
  CancelledFailure,
  TerminatedFailure,
  TimeoutFailure,
} from '@temporalio/common';
import { type FailureCode, failureKind, isFailureCode, isKilnError } from '../domain/failures.ts';

/** What an error of an activity means to the workflow. */
export type ActivityVerdict =
  /** The host did not answer, or its worker went away: not a fact about the workload. */
  | { readonly kind: 'suspicion'; readonly message: string }
  | { readonly kind: 'timeout'; readonly message: string }
  | { readonly kind: 'cancelled' }
  | { readonly kind: 'failure'; readonly code: FailureCode; readonly message: string; readonly stack?: string };

/** Types of failure that the SDK makes when a worker or an operator, not the work, ended an attempt. */
const DETACHED_TYPES: readonly string[] = ['WorkerShutdown', 'ActivityPause', 'ActivityReset'];

/** Sorts what an activity call threw. Codes and failure classes only; never message text. */
export function judge(error: unknown): ActivityVerdict {
  const cause = error instanceof ActivityFailure ? error.cause : error;
  if (cause instanceof CancelledFailure || cause instanceof TerminatedFailure) return { kind: 'cancelled' };
  if (cause instanceof TimeoutFailure) return judgeTimeout(cause);
  if (cause instanceof ApplicationFailure) return judgeApplication(cause);
  if (isKilnError(cause)) return { kind: 'failure', code: cause.code, message: cause.message };
  return { kind: 'failure', code: 'INTERNAL', message: cause instanceof Error ? cause.message : String(cause) };
}

function judgeTimeout(failure: TimeoutFailure): ActivityVerdict {
  const silent = failure.timeoutType === 'HEARTBEAT' || failure.timeoutType === 'SCHEDULE_TO_START';
  if (silent) return { kind: 'suspicion', message: `host did not answer (${failure.timeoutType})` };
  // A schedule-to-close time-out carries what the last try died of.
  if (failure.cause instanceof ApplicationFailure) return judgeApplication(failure.cause);
  return { kind: 'timeout', message: `took longer than allowed (${failure.timeoutType})` };
}

function judgeApplication(failure: ApplicationFailure): ActivityVerdict {
  const type = failure.type ?? '';
  if (DETACHED_TYPES.includes(type)) return { kind: 'suspicion', message: `worker went away (${type})` };
  const stack = stackOf(failure);
  return {
    kind: 'failure',
    code: isFailureCode(type) ? type : 'INTERNAL',
    message: failure.message,
    ...(stack === undefined ? {} : { stack }),
  };
}

/** Stack of the user's program where the activity reported one, else of our own code for INTERNAL errors. */
function stackOf(failure: ApplicationFailure): string | undefined {
  const first: unknown = failure.details?.[0];
  if (typeof first === 'object' && first !== null && 'stack' in first && typeof first.stack === 'string')
    return first.stack;
  return isFailureCode(failure.type) ? undefined : failure.stack;
}

/** What an owner of a VM fails with: a code of the failure table, what happened, and where its program was then. */
export interface CodedError {
  readonly code: FailureCode;
  readonly message: string;
  readonly stack?: string;
}

/** An error that ends a piece of work with a code. */
export class CodedFailure extends Error {
  override readonly name = 'CodedFailure';
  readonly failure: CodedError;

  constructor(failure: CodedError) {
    super(failure.message);
    this.failure = failure;
  }
}

/** @returns what an error means as a failure; a time-out takes the code that is given for it. */
export function codedError(error: unknown, timeoutCode: FailureCode = 'TIMED_OUT'): CodedError {
  if (error instanceof CodedFailure) return error.failure;
  const verdict = judge(error);
  if (verdict.kind === 'failure') {
    const { code, message, stack } = verdict;
    return { code, message, ...(stack === undefined ? {} : { stack }) };
  }
  if (verdict.kind === 'timeout') return { code: timeoutCode, message: verdict.message };
  if (verdict.kind === 'suspicion') return { code: 'HOST_LOST', message: verdict.message };
  return { code: 'CANCELLED', message: 'cancelled' };
}

/** @returns whether the thing itself (a boot, a build) may be tried anew, under a new name. */
export function mayTryAnew(error: unknown): boolean {
  const verdict = judge(error);
  if (verdict.kind === 'failure') return failureKind(verdict.code).retryable;
  return verdict.kind === 'timeout' || verdict.kind === 'suspicion';
}

/** @returns whether a frozen guest, not the work, failed: the next try boots cold. */
export function isTemplateFailure(error: unknown): boolean {
  const verdict = judge(error);
  return verdict.kind === 'failure' && (verdict.code === 'TEMPLATE_CORRUPT' || verdict.code === 'TEMPLATE_MISMATCH');
}
