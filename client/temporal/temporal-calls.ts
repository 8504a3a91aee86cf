/** Calls of the Temporal frontend: each has a deadline and fails with codes of the failure table. */
import {
  type Client,
  isGrpcServiceError,
  ServiceError,
  WorkflowNotFoundError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
} from '@temporalio/client';
import { isKilnError, KilnError, messageOf } from '../../domain/failures.ts';

/** gRPC status codes of a server that is away, overloaded, or slower than the deadline. */
const UNAVAILABLE_STATUS: readonly number[] = [1, 4, 8, 14];
const NOT_FOUND_STATUS = 5;
const FAILED_PRECONDITION_STATUS = 9;

/**
 * Makes one call with a deadline.
 * @throws TEMPORAL_UNAVAILABLE where no answer came; otherwise what the call itself throws
 */
export async function withDeadline<T>(client: Client, deadlineMs: number, call: () => Promise<T>): Promise<T> {
  try {
    return await client.withDeadline(Date.now() + deadlineMs, call);
  } catch (error) {
    throw isUnavailable(error) ? unavailable(error) : error;
  }
}

/** @returns whether Temporal has no such workflow, or no open one. */
export function isNoWorkflow(error: unknown): boolean {
  return error instanceof WorkflowNotFoundError || grpcStatus(error) === NOT_FOUND_STATUS;
}

/** @returns whether the server itself did not answer: then nothing is known about the workflow. */
export function isUnavailable(error: unknown): boolean {
  if (isKilnError(error)) return error.code === 'TEMPORAL_UNAVAILABLE';
  // What the SDK makes of an update whose deadline passes.
  if (error instanceof WorkflowUpdateRPCTimeoutOrCancelledError) return true;
  const status = grpcStatus(error);
  return status !== undefined && UNAVAILABLE_STATUS.includes(status);
}

/** Most tries of an update in one call; each waits for a workflow task. */
const UPDATE_TRIES = 5;

/**
 * Sends an update again that was on its way in a workflow task that failed, such as one that continues as new while
 * something else arrives: it was not taken (Temporal server 1.31, `WorkflowNotReady`).
 * @param update safe to be sent twice
 * @throws TEMPORAL_UNAVAILABLE after some tries; otherwise what the update throws
 */
export async function sentUntilReady<T>(update: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await update();
    } catch (error) {
      if (grpcStatus(error) !== FAILED_PRECONDITION_STATUS) throw error;
      if (tries >= UPDATE_TRIES) throw unavailable(error);
    }
  }
}

function grpcStatus(error: unknown): number | undefined {
  if (isGrpcServiceError(error)) return error.code;
  return error instanceof ServiceError && error.cause !== undefined ? grpcStatus(error.cause) : undefined;
}

function unavailable(error: unknown): KilnError {
  if (isKilnError(error)) return error;
  const reason = messageOf(error);
  return new KilnError(
    'TEMPORAL_UNAVAILABLE',
    `Temporal did not answer: ${reason}. Check that its server runs.`,
    {},
    error,
  );
}
