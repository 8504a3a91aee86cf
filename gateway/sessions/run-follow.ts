/** Follows one run from before its start to its end: the host says when something happens, the workflow says what. */
import { setTimeout as delay } from 'node:timers/promises';
import type { LocatedRun } from '../../client/temporal/sessions/session-client.ts';
import type { OutputPiece, RunOutputReply } from '../../contracts/host/data-plane.ts';
import type { HostEntry } from '../../domain/capacity/host-entry.ts';
import { isKilnError } from '../../domain/failures.ts';
import type { SessionName } from '../../domain/names.ts';
import type { EndedRun, KnownRun, RunVm } from '../../domain/session/run-book.ts';
import type { FollowRunOutput, RunAtHost } from './host-run-output.ts';

export interface RunFollowOptions {
  /** @returns the run as it is now. @throws NOT_FOUND, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE */
  readonly locate: () => Promise<LocatedRun>;
  /** Only a host that has registered lately. */
  readonly host: (hostId: string) => Promise<HostEntry | undefined>;
  readonly follow: FollowRunOutput;
  /** Output in the store; none where nothing follows there. */
  readonly stored: (session: SessionName, run: EndedRun, after: number) => Promise<readonly OutputPiece[]>;
  readonly limits: RunFollowLimits;
  readonly signal: AbortSignal;
}

export interface RunFollowLimits {
  /** How long a host is asked to hold a request, ms. */
  readonly holdMs: number;
  /** Pauses between two looks where no host can be asked to wait, ms: the first, and the longest. */
  readonly lookMs: number;
  readonly maxLookMs: number;
  /** How long the end of a run waits for a host that is there and does not give the rest of its output, ms. */
  readonly incompleteMs: number;
}

/** With twice the pause each time, a new session would be seen to run up to twice as late as it does. */
const PAUSE_GROWTH = 1.25;

export type RunNews =
  | { readonly kind: 'output'; readonly piece: OutputPiece; readonly end: number }
  /** Nothing has happened: a reader that waits long sees that the stream is alive. */
  | { readonly kind: 'quiet' }
  | { readonly kind: 'end'; readonly run: EndedRun };

/**
 * Yields output behind `after`, then the end. Ends early only when the signal is aborted. Waits where nobody can tell
 * about the run just now. @throws NOT_FOUND
 */
export async function* followRun(options: RunFollowOptions, after: number): AsyncGenerator<RunNews, void> {
  const { limits, signal } = options;
  let position = after;
  let pauseMs = limits.lookMs;
  let missedSince: number | undefined;
  const pause = async () => {
    await delay(pauseMs, undefined, { signal }).catch(() => undefined);
    pauseMs = Math.min(pauseMs * PAUSE_GROWTH, limits.maxLookMs);
  };
  while (!signal.aborted) {
    const look = await options.locate().catch(undefinedIfAway);
    if (look === undefined) {
      await pause();
      yield { kind: 'quiet' };
      continue;
    }
    const told = yield* fromHost(options, look, position);
    if (told.position > position) pauseMs = limits.lookMs;
    position = told.position;
    const { answer } = told;
    // Output of another run that has its turn: look again.
    if ((answer?.pieces.length ?? 0) > 0) {
      pauseMs = limits.lookMs;
      continue;
    }
    if (look.run.state === 'ended') {
      const { run } = look.run;
      const stored = yield* fromStore(options, run, look.session, position);
      position = stored.position;
      const isWhole = position >= endOfOutput(run);
      missedSince ??= performance.now();
      // A host that is there, but does not answer just now, may have the rest; so may a store.
      const hostMayTell = told.isSilent && performance.now() - missedSince < limits.incompleteMs;
      if (isWhole || !(hostMayTell || stored.isSilent)) return yield* end(run, position);
    }
    // Its end is on the way into the workflow, or no host can be asked to wait.
    if (answer === undefined || answer.isLast) await pause();
    else pauseMs = limits.lookMs;
    yield { kind: 'quiet' };
  }
}

/**
 * Yields the output that its host has, for as long as more of it comes: the run stays where it is, so nobody has to be
 * asked where that is.
 * @returns the position behind it, and the last answer: without output, or with that of another run. `isSilent`: a host
 *   has been asked in vain
 */
async function* fromHost(
  options: RunFollowOptions,
  look: LocatedRun,
  after: number,
): AsyncGenerator<RunNews, { position: number; answer: RunOutputReply | undefined; isSilent: boolean }> {
  const place = placeOf(look, options.limits);
  const waits = look.run.state === 'waiting';
  let position = after;
  // Also its beginning is news for a run that waits.
  let answer = place && (await askHost(options, place, waits ? 0 : after));
  while (place !== undefined && answer !== undefined && answer !== 'silent' && answer.pieces.length > 0) {
    const isOwn = !waits || (after === 0 && answer.runId === look.run.run.id);
    if (!isOwn) break;
    for (const piece of answer.pieces) {
      position = endOf(piece);
      yield { kind: 'output', piece, end: position };
    }
    const waitMs = look.run.state === 'ended' ? 0 : options.limits.holdMs;
    answer = options.signal.aborted ? undefined : await askHost(options, { ...place, waitMs }, position);
  }
  return answer === 'silent' ? { position, answer: undefined, isSilent: true } : { position, answer, isSilent: false };
}

/**
 * Waits for the end of a run.
 * @param known the run as it was before
 * @returns the run as it is then, or as it is once the signal is aborted
 */
export async function untilEnded(options: RunFollowOptions, known: KnownRun): Promise<KnownRun> {
  for await (const news of followRun(options, Number.MAX_SAFE_INTEGER)) {
    if (news.kind === 'end') return { state: 'ended', run: news.run };
  }
  return (await options.locate().catch(undefinedIfAway))?.run ?? known;
}

function undefinedIfAway(error: unknown): undefined {
  if (!isKilnError(error, 'TEMPORAL_UNAVAILABLE', 'STORE_UNAVAILABLE')) throw error;
}

interface PlaceOfRun {
  readonly at: RunVm;
  readonly turn: number;
  readonly waitMs: number;
}

/** Where output of the run is or will be, and how long to wait there, ms; undefined where no host can tell yet. */
function placeOf({ run, place, nextTurn }: LocatedRun, { holdMs, maxLookMs }: RunFollowLimits): PlaceOfRun | undefined {
  if (run.state === 'ended') return run.run.vm && { at: run.run.vm, turn: run.run.turn ?? 0, waitMs: 0 };
  if (run.state === 'running') return { at: run.run.vm, turn: run.run.turn, waitMs: holdMs };
  // The host does not see that it is cancelled, comes earlier, or will run elsewhere: it is looked at again soon.
  return place && { at: place, turn: nextTurn + run.ahead, waitMs: Math.min(holdMs, maxLookMs) };
}

/** @returns undefined where no host can be asked: it is lost, or never was there; 'silent' where it does not answer */
async function askHost(
  { host, follow, signal }: RunFollowOptions,
  { at, turn, waitMs }: PlaceOfRun,
  after: number,
): Promise<RunOutputReply | 'silent' | undefined> {
  const run: RunAtHost = { vmId: at.vmId, turn };
  try {
    const entry = await host(at.hostId);
    return entry && (await follow(entry, run, { after, waitMs, signal }));
  } catch (error) {
    if (signal.aborted) return undefined;
    if (isKilnError(error, 'HOST_LOST', 'STORE_UNAVAILABLE')) return 'silent';
    throw error;
  }
}

/** Yields what the host has no more. @returns the position behind it; `isSilent`: the store does not answer */
async function* fromStore(
  { stored }: RunFollowOptions,
  run: EndedRun,
  session: SessionName,
  from: number,
): AsyncGenerator<RunNews, { position: number; isSilent: boolean }> {
  let position = from;
  try {
    while (position < endOfOutput(run)) {
      const pieces = await stored(session, run, position);
      if (pieces.length === 0) break;
      for (const piece of pieces) {
        position = endOf(piece);
        yield { kind: 'output', piece, end: position };
      }
    }
    return { position, isSilent: false };
  } catch (error) {
    if (!isKilnError(error, 'STORE_UNAVAILABLE')) throw error;
    return { position, isSilent: true };
  }
}

/** What a dead host had not shipped is told as a gap. */
function* end(run: EndedRun, position: number): Generator<RunNews, void> {
  const { outcome } = run;
  if (outcome.as === 'finished' && position < outcome.outputBytes) {
    const bytes = outcome.outputBytes - position;
    yield { kind: 'output', piece: { kind: 'gap', offset: position, bytes }, end: outcome.outputBytes };
  }
  yield { kind: 'end', run };
}

/** Only of a finished run it is known how much there was. */
function endOfOutput({ outcome }: EndedRun): number {
  return outcome.as === 'finished' ? outcome.outputBytes : Number.MAX_SAFE_INTEGER;
}

function endOf(piece: OutputPiece): number {
  return piece.offset + (piece.kind === 'gap' ? piece.bytes : Buffer.byteLength(piece.base64, 'base64'));
}
