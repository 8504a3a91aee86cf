/** One run of a session, as its caller holds it. */
import type { RunView } from '../../../contracts/api/session-view.ts';
import { defined } from '../../../domain/defined.ts';
import { isFailureCode, KilnError } from '../../../domain/failures.ts';
import type { StreamTimings } from '../event-stream.ts';
import type { RouteMethods } from '../route-methods.ts';
import { type RepeatTimings, repeatCall } from './repeat-call.ts';
import { chunksOf, type RunChunk } from './run-chunks.ts';
import type { RunOutputEvent, RunOutputOptions } from './run-output.ts';

/**
 * A run. Iterated, it yields its output from the first byte on until it is over, also where that began before or comes
 * later; each iteration reads for itself. Whatever is asked of it fails with what its sending failed with.
 */
export interface Run extends AsyncIterable<RunChunk> {
  /** Its key: the same id with the same command is the same run. */
  readonly id: string;
  /** Resolves once the session has taken it. @throws KilnError: CONFLICT, QUEUE_FULL, SESSION_CLOSED, … */
  accepted(): Promise<RunView>;
  /**
   * Waits until it has ended, with whatever exit code.
   * @throws KilnError with the failure's code where it failed, CANCELLED or SESSION_CLOSED where it was cancelled; the
   *   run is `details.run`
   */
  result(): Promise<RunView>;
  /** Cancels it, whether it waits or runs; one that has ended stays as it is. Its end is what `result` tells. */
  cancel(): Promise<RunView>;
}

/** Where a run is, and what its calls go through. */
export interface RunPlace {
  readonly calls: Pick<RouteMethods, 'getRun' | 'cancelRun'> & {
    streamRunOutput(
      run: { readonly thread: string; readonly id: string },
      options?: RunOutputOptions,
    ): AsyncGenerator<RunOutputEvent, void>;
  };
  readonly thread: string;
  readonly project: string | undefined;
  readonly repeat: RepeatTimings;
  readonly stream: Partial<StreamTimings>;
  /** How long one call waits for the end of the run. */
  readonly waitMs: number;
}

/**
 * @param sent resolves once the run was taken
 * @param signal ends whatever waits for the run; the run itself goes on
 */
export function createRun(place: RunPlace, id: string, sent: Promise<RunView>, signal: AbortSignal | undefined): Run {
  const { calls, thread, project, repeat } = place;
  const params = { thread, id };
  const query = defined({ project });
  const options = defined({ signal });
  // Whoever asks of this run is told; a run that nobody asks of must not end the program.
  sent.catch(() => undefined);
  let ended: RunView | undefined;
  const seen = (run: RunView): RunView => {
    if (hasEnded(run)) ended = run;
    return run;
  };
  const untilEnded = async (): Promise<RunView> => {
    seen(await sent);
    while (ended === undefined) {
      signal?.throwIfAborted();
      const look = () => calls.getRun({ params, query: { ...query, waitMs: place.waitMs } }, options);
      seen(await repeatCall(look, repeat, signal));
    }
    return ended;
  };
  async function* output(): AsyncGenerator<RunChunk, void> {
    await sent;
    yield* chunksOf(calls.streamRunOutput(params, { ...place.stream, ...query, ...options }), seen);
  }
  return {
    id,
    accepted: () => sent,
    result: async () => withoutFailure(await untilEnded()),
    cancel: async () => {
      await sent;
      return seen(await repeatCall(() => calls.cancelRun({ params, query }, options), repeat, signal));
    },
    [Symbol.asyncIterator]: output,
  };
}

function hasEnded({ state }: RunView): boolean {
  return state !== 'waiting' && state !== 'running';
}

/** @throws KilnError where it failed or was cancelled */
function withoutFailure(run: RunView): RunView {
  if (run.state === 'finished') return run;
  const { code, message } = run.failure ?? { code: run.cause, message: cancelled(run) };
  const fallback = run.failure === undefined ? 'CANCELLED' : 'INTERNAL';
  throw new KilnError(isFailureCode(code) ? code : fallback, message, { run });
}

function cancelled({ id, cause }: RunView): string {
  return cause === 'SESSION_CLOSED'
    ? `The run ${id} was cancelled: its session was closed.`
    : `The run ${id} was cancelled.`;
}
