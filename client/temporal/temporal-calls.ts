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
