import { ApplicationFailure } from '@temporalio/common';
import { isKilnError } from '../domain/failures.ts';

/**
 * First line of every workflow: invalid input ends it with a clear answer. A plain error would only fail the workflow
 * task, which Temporal then retries for ever.
 * @param assert throws a KilnError where the input is invalid
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
