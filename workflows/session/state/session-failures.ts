import { ApplicationFailure } from '@temporalio/common';
import { isKilnError, KilnError } from '../../../domain/failures.ts';
import { causeInWords } from '../../../domain/session/session-events.ts';
import type { SessionLeaving } from '../../../domain/session/session-state.ts';

/** @returns what a caller of a session that leaves is told */
export function sessionEnded({ as, cause }: SessionLeaving): KilnError {
  const code = as === 'expired' ? 'SESSION_EXPIRED' : 'SESSION_CLOSED';
  return new KilnError(code, `The session is ${as}: ${causeInWords(cause)}.`);
}

/** @returns what a sender is told while the ends of too many runs wait for the store */
export function storeBehind(count: number): KilnError {
  const message = `The ends of ${count} runs wait for the object store. Send this run again once the store answers.`;
  return new KilnError('STORE_UNAVAILABLE', message);
}

/** A plain error in an update handler fails the workflow task, which Temporal then repeats for ever. */
export function asFailure(check: () => void): void {
  try {
    check();
  } catch (error) {
    throw isKilnError(error) ? failureOf(error) : error;
  }
}

/** @returns a failure whose type is the code, as callers of an update get it */
export function failureOf({ message, code }: KilnError): ApplicationFailure {
  return ApplicationFailure.nonRetryable(message, code);
}
