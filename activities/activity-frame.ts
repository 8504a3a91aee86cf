import { ApplicationFailure, Context } from '@temporalio/activity';
import type { ActivityCancellationDetails } from '@temporalio/common';
import { isFullDisk, isKilnError, KilnError, messageOf } from '../domain/failures.ts';

/** Longest pause between two heartbeats, ms: cancellation reaches an activity with its heartbeats. */
const MAX_HEARTBEAT_INTERVAL_MS = 1000;

export interface FrameOptions {
  /**
   * Whether the workflow repeats the same call, with the same names, where this one only seems lost (late heartbeats,
   * or an operator reset it): then the work goes on, and the next call finds it.
   */
  readonly isMadeAgain?: boolean;
}

/**
 * Frame of every activity: sends heartbeats while the work goes on, gives the work a signal that asks it to stop and
 * clean up, and turns errors into failures whose type is the code.
 *
 * A worker that shuts down must not disturb a VM: the activity ends, and the work stays as it is. The next try of the
 * activity finds it by name.
 */
export async function framed<T>(
  work: (signal: AbortSignal) => Promise<T>,
  { isMadeAgain = false }: FrameOptions = {},
): Promise<T> {
  const context = Context.current();
  const giveUp = new AbortController();
  const beat = setInterval(() => context.heartbeat(), heartbeatInterval(context.info.heartbeatTimeoutMs));
  let cancelled: unknown;
  const detached = new Promise<never>((_, reject) => {
    context.cancelled.catch((error: unknown) => {
      cancelled = error;
      const why = context.cancellationDetails;
      if (why !== undefined && isForgotten(why)) clearInterval(beat);
      if (why?.workerShutdown || (isMadeAgain && why?.cancelRequested === false)) reject(error);
      else giveUp.abort(error);
    });
  });
  try {
    return await Promise.race([work(giveUp.signal), detached]);
  } catch (error) {
    throw cancelled ?? toFailure(error);
  } finally {
    clearInterval(beat);
  }
}

/**
 * Whether the server knows this try no more. A heartbeat of such a one makes it drop what it holds in memory of the
 * workflow, with the updates that are on their way to it (Temporal server 1.31: "Workflow task not found").
 */
function isForgotten({ notFound, timedOut, reset }: ActivityCancellationDetails): boolean {
  return notFound || timedOut || reset;
}

/** Frame of short activities without a heartbeat. */
export async function short<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw toFailure(error);
  }
}

function heartbeatInterval(heartbeatTimeoutMs: number | undefined): number {
  return Math.max(10, Math.min(MAX_HEARTBEAT_INTERVAL_MS, (heartbeatTimeoutMs ?? Number.POSITIVE_INFINITY) / 4));
}

/** @returns an ApplicationFailure whose type is the error's code and which is retried only where the table says so. */
export function toFailure(error: unknown): ApplicationFailure {
  if (error instanceof ApplicationFailure) return error;
  if (isKilnError(error)) return fromKilnError(error);
  if (isFullDisk(error)) return fromKilnError(diskFull(error));
  const message = messageOf(error);
  const stack = error instanceof Error ? cut((error.stack ?? '').slice(0, 2000)) : '';
  return ApplicationFailure.create({
    type: 'INTERNAL',
    message: cut(message.slice(0, 1000)),
    nonRetryable: false,
    details: [{ stack }],
  });
}

/** Any file write of a host may fail on a full disk: that is not a defect, and it passes. */
function diskFull({ message }: Error): KilnError {
  return new KilnError('DISK_FULL', `No space left where the host keeps its state: free some there (${message}).`);
}

function fromKilnError(error: KilnError): ApplicationFailure {
  return ApplicationFailure.create({
    type: error.code,
    // Failures are stored in history, where the server cuts them at 4 KiB.
    message: cut(error.message.slice(0, 1000)),
    nonRetryable: !error.retryable,
    details: [boundDetails(error.details)],
  });
}

function boundDetails(details: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const bounded: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(details)) {
    bounded[name] = typeof value === 'string' ? cut(value.slice(-1500)) : value;
  }
  return bounded;
}

/** A cut, or a guest, may leave half a surrogate pair; a worker that must write one as UTF-8 crashes. */
function cut(text: string): string {
  return text.toWellFormed();
}
