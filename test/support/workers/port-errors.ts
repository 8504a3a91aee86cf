/** What a faulty call of a port ends with. Named, so that a parent can ask a worker process for it. */
import { ApplicationFailure } from '@temporalio/common';
import { KilnError } from '../../../domain/failures.ts';

export const PORT_ERRORS = ['store-away', 'fails', 'bad-boot', 'worker-gone'] as const;
export type PortError = (typeof PORT_ERRORS)[number];

/** @returns a new error: an outage, one without a code, a boot that was not in time, a worker that shuts down */
export function portError(kind: PortError, where: string): Error {
  if (kind === 'store-away') return new KilnError('STORE_UNAVAILABLE', `a fault ${where}`);
  if (kind === 'bad-boot') return new KilnError('BOOT_TIMEOUT', `a fault ${where}`);
  if (kind === 'worker-gone') return ApplicationFailure.create({ type: 'WorkerShutdown', message: `a fault ${where}` });
  return new Error(`a fault ${where}`);
}
