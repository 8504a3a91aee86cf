import {
  ActivityFailure,
  ApplicationFailure,
  CancelledFailure,
  TerminatedFailure,
  TimeoutFailure,
} from '@temporalio/common';
import { defined } from '../domain/defined.ts';
import { type FailureCode, failureKind, isFailureCode, isKilnError } from '../domain/failures.ts';

/** What an error of an activity means to the workflow. */
export type ActivityVerdict =
  /** The host did not answer, or its worker stopped: this says nothing about the workload. */
  | {
      readonly kind: 'suspicion';
      readonly message: string;
      /** The host took the call, so that it may have had its effect. */
      readonly wasTaken: boolean;
    }
  | { readonly kind: 'timeout'; readonly message: string }
  | { readonly kind: 'cancelled' }
  | { readonly kind: 'failure'; readonly code: FailureCode; readonly message: string; readonly stack?: string };

/** Failure types that the SDK uses when a worker or an operator, not the work itself, ended an attempt. */
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
  if (silent) {
    const message = `host did not answer (${failure.timeoutType})`;
    return { kind: 'suspicion', message, wasTaken: failure.timeoutType !== 'SCHEDULE_TO_START' };
  }
  // A schedule-to-close time-out carries the failure of the last try.
  if (failure.cause instanceof ApplicationFailure) return judgeApplication(failure.cause);
  return { kind: 'timeout', message: `took longer than allowed (${failure.timeoutType})` };
}

function judgeApplication(failure: ApplicationFailure): ActivityVerdict {
  const type = failure.type ?? '';
  if (DETACHED_TYPES.includes(type)) {
    return { kind: 'suspicion', message: `worker went away (${type})`, wasTaken: true };
  }
  const stack = stackOf(failure);
  return {
    kind: 'failure',
    code: isFailureCode(type) ? type : 'INTERNAL',
    message: failure.message,
    ...defined({ stack }),
  };
}

/** Stack of the user's program where the activity reported one; for INTERNAL errors, the stack of our own code. */
function stackOf(failure: ApplicationFailure): string | undefined {
  const first: unknown = failure.details?.[0];
  if (typeof first === 'object' && first !== null && 'stack' in first && typeof first.stack === 'string')
    return first.stack;
  return isFailureCode(failure.type) ? undefined : failure.stack;
}

/** How an owner of a VM fails: a code of the failure table, what happened, and where its program was then. */
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

/** @returns an error as a coded failure; a time-out gets `timeoutCode`. */
export function codedError(error: unknown, timeoutCode: FailureCode = 'TIMED_OUT'): CodedError {
  if (error instanceof CodedFailure) return error.failure;
  const verdict = judge(error);
  if (verdict.kind === 'failure') {
    const { code, message, stack } = verdict;
    return { code, message, ...defined({ stack }) };
  }
  if (verdict.kind === 'timeout') return { code: timeoutCode, message: verdict.message };
  if (verdict.kind === 'suspicion') return { code: 'HOST_LOST', message: verdict.message };
  return { code: 'CANCELLED', message: 'cancelled' };
}

/** @returns whether the boot or build may be tried again, under a new name. */
export function mayTryAnew(error: unknown): boolean {
  const verdict = judge(error);
  if (verdict.kind === 'failure') return failureKind(verdict.code).retryable;
  return verdict.kind === 'timeout' || verdict.kind === 'suspicion';
}

/** @returns whether the template, not the work, failed: the next try boots cold. */
export function isTemplateFailure(error: unknown): boolean {
  const verdict = judge(error);
  return verdict.kind === 'failure' && (verdict.code === 'TEMPLATE_CORRUPT' || verdict.code === 'TEMPLATE_MISMATCH');
}
