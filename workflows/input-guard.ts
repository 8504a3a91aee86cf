import { ApplicationFailure } from '@temporalio/common';
import { isKilnError } from '../domain/failures.ts';

/**
 * First line of every workflow: input that is none ends it with a plain answer. A plain error would fail the workflow
 * task instead, which is then tried without end.
 * @param assert throws a KilnError where the input is none
 * @throws ApplicationFailure of the same code, non-retryable
 */
export function guardInput(assert: () => void): void {
  try {
    assert();
  } catch (error) {
    if (isKilnError(error)) throw ApplicationFailure.nonRetryable(error.message, error.code);
    throw error;
  }
}
