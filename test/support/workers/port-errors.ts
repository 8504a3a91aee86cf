/** Errors with which a call of a port can fail. They have names, so that a test can request one in a worker process. */
import { ApplicationFailure } from '@temporalio/common';
import { KilnError } from '../../../domain/failures.ts';

export const PORT_ERRORS = ['store-away', 'fails', 'bad-boot', 'worker-gone'] as const;
export type PortError = (typeof PORT_ERRORS)[number];

/** @returns a new error: an outage, one without a code, a boot that took too long, a worker that shuts down */
export function portError(kind: PortError, where: string): Error {
  if (kind === 'store-away') return new KilnError('STORE_UNAVAILABLE', `a fault ${where}`);
  if (kind === 'bad-boot') return new KilnError('BOOT_TIMEOUT', `a fault ${where}`);
  if (kind === 'worker-gone') return ApplicationFailure.create({ type: 'WorkerShutdown', message: `a fault ${where}` });
  return new Error(`a fault ${where}`);
}
