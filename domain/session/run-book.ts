/** The runs of a session: who waits, who runs, how the last ones ended. Pure; the workflow is the only writer. */
import { defined } from '../defined.ts';
import { KilnError } from '../failures.ts';
import type { KnownRunIds } from './known-run-ids.ts';

export const MAX_WAITING_RUNS = 20;
/** Of all bodies that wait, bytes as they were sent. */
export const MAX_WAITING_BYTES = 256 * 1024;
/** Ended runs that the workflow answers for by itself. */
export const RECENT_RUNS = 200;

/** Where the body of a run is: sealed in the order itself, or in the store. */
export type RunBody = { readonly sealed: string } | { readonly sha256: string };

/** What a caller asks for. Nothing of the body can be read here. */
export interface RunOrder {
  readonly id: string;
  /** SHA-256 (hex) of the id: its name in the store. */
  readonly idSha256: string;
  /** SHA-256 (hex) of the canonical body: the same id with another one is a CONFLICT. */
  readonly bodyHash: string;
  readonly bytes: number;
  readonly body: RunBody;
  readonly timeoutMs: number;
  /** Whether it may run again where its VM was lost in the middle. */
  readonly repeatable: boolean;
}

export interface WaitingRun extends RunOrder {
  /** ISO 8601. */
  readonly acceptedAt: string;
  /** The id may be one that the thread has used long ago: the store is asked before the run starts. */
  readonly mayBeKnown: boolean;
}

export interface StartedRun extends WaitingRun {
  /** Every started run of a thread has the next number. */
  readonly turn: number;
  readonly startedAt: string;
  /** How often it was started again after its VM was lost. */
  readonly repeats: number;
  /** The VM that it runs in: the last one, where it was repeated. */
  readonly vm: RunVm;
  /** What the session had lost before this run. */
  readonly lost?: LostWorkspace;
}

export interface RunVm {
  readonly hostId: string;
  readonly vmId: string;
}

/** A VM ended and took the workspace with it, or what was changed in it since its last save. */
export interface LostWorkspace {
  /** The last run that had worked in it; 0 where only files had been written. */
  readonly afterTurn: number;
  readonly reason: string;
  /** The files are as they were after this turn. Absent: the workspace is empty. */
  readonly restoredTurn?: number;
}

/** @returns what was lost, in words. */
export function lostInWords({ afterTurn, reason, restoredTurn }: LostWorkspace): string {
  if (restoredTurn !== undefined) {
    return `what was changed in the workspace after turn ${restoredTurn}, up to turn ${afterTurn}: ${reason}`;
  }
  return afterTurn === 0
    ? `the files of the workspace: ${reason}`
    : `the workspace, after turn ${afterTurn}: ${reason}`;
}

export type RunOutcome =
  /** The process exited, however: only an explicit message of the agent says so. */
  | {
      readonly as: 'finished';
      readonly code: number | null;
      readonly signal: string | null;
      readonly outputBytes: number;
    }
  | { readonly as: 'failed'; readonly failure: string; readonly message: string }
  | { readonly as: 'cancelled'; readonly cause: string };

export interface EndedRun {
  readonly id: string;
  readonly bodyHash: string;
  readonly acceptedAt: string;
  /** Absent for a run that never started. */
  readonly turn?: number;
  readonly startedAt?: string;
  readonly endedAt: string;
  /** Where it ran, and where its output was written. */
  readonly vm?: RunVm;
  readonly lost?: LostWorkspace;
  readonly outcome: RunOutcome;
}

export interface RunBook {
  readonly waiting: readonly WaitingRun[];
  readonly running?: StartedRun;
  /** The last `RECENT_RUNS`, the newest last. */
  readonly ended: readonly EndedRun[];
  /** Number of the last started run. */
  readonly turn: number;
  /** What was lost since the last run; the next one is told. */
  readonly lost?: LostWorkspace;
  /** Files were written before the first run: they, too, can be lost. */
  readonly hasFiles?: true;
}

export const NO_RUNS: RunBook = { waiting: [], ended: [], turn: 0 };

export type KnownRun =
  | { readonly state: 'waiting'; readonly run: WaitingRun; readonly ahead: number }
  | { readonly state: 'running'; readonly run: StartedRun }
  | { readonly state: 'ended'; readonly run: EndedRun };

/** @returns the run of that id, as far as the book knows it */
export function findRun({ waiting, running, ended }: RunBook, id: string): KnownRun | undefined {
  if (running?.id === id) return { state: 'running', run: running };
  const place = waiting.findIndex((run) => run.id === id);
  const waits = waiting[place];
  if (waits !== undefined) return { state: 'waiting', run: waits, ahead: place + (running === undefined ? 0 : 1) };
  const over = ended.findLast((run) => run.id === id);
  return over && { state: 'ended', run: over };
}

/**
 * Whether only the store knows what became of this id: a session that has not asked it yet may have taken an id that the
 * thread has used before, and may have given it up with everything else that waited.
 */
export function isUnsure(known: KnownRun): boolean {
  return known.state === 'waiting' ? known.run.mayBeKnown : known.state === 'ended' && known.run.turn === undefined;
}

/** @returns the turn of a run that has none ahead: the present one, or the next where none runs */
export function turnAhead({ turn, running }: RunBook): number {
  return running === undefined ? turn + 1 : turn;
}

/**
 * Whether an order can be taken. Nothing is changed, so that a handler can refuse before anything is recorded.
 * @returns 'known' where it was taken before
 * @throws CONFLICT where the id has another body, QUEUE_FULL
 */
export function judgeOrder(book: RunBook, order: RunOrder): 'new' | 'known' {
  const known = findRun(book, order.id);
  if (known !== undefined) {
    if (known.run.bodyHash === order.bodyHash) return 'known';
    throw new KilnError('CONFLICT', `The run ${order.id} has another body; choose another id, or send the same body.`);
  }
  const bytes = book.waiting.reduce((sum, run) => sum + run.bytes, order.bytes);
  if (book.waiting.length >= MAX_WAITING_RUNS || bytes > MAX_WAITING_BYTES) {
    const limits = `${MAX_WAITING_RUNS} runs and ${MAX_WAITING_BYTES / 1024} KiB`;
    throw new KilnError('QUEUE_FULL', `At most ${limits} may wait in a session: send this one when others have ended.`);
  }
  return 'new';
}

/**
 * Takes an order; a known one changes nothing.
 * @param known every id of the thread; a new one is added
 * @throws as `judgeOrder`
 */
export function takeOrder(book: RunBook, known: KnownRunIds, order: RunOrder, acceptedAt: string): RunBook {
  if (judgeOrder(book, order) === 'known') return book;
  const run: WaitingRun = { ...order, acceptedAt, mayBeKnown: known.mayHave(order.idSha256) };
  known.add(order.idSha256);
  return { ...book, waiting: [...book.waiting, run] };
}

/** Starts the run that waits longest. @returns the book as it is where none waits or one runs */
export function startNext(book: RunBook, vm: RunVm, startedAt: string): RunBook {
  const [next, ...waiting] = book.waiting;
  if (next === undefined || book.running !== undefined) return book;
  const turn = book.turn + 1;
  const { lost, ...rest } = book;
  return { ...rest, waiting, turn, running: { ...next, turn, startedAt, repeats: 0, vm, ...defined({ lost }) } };
}

/** Notes that the present run is started once more, in another VM. */
export function repeatRun(book: RunBook, vm: RunVm): RunBook {
  return book.running === undefined
    ? book
    : { ...book, running: { ...book.running, repeats: book.running.repeats + 1, vm } };
}

/** Longest text that is kept of a failure or a loss, UTF-16 units. */
const MAX_TEXT = 500;

/** A message may hold whatever a program has said. */
function bounded(outcome: RunOutcome): RunOutcome {
  return outcome.as === 'failed' ? { ...outcome, message: boundedText(outcome.message) } : outcome;
}

function boundedText(text: string): string {
  return text.slice(0, MAX_TEXT).toWellFormed();
}

/** Ends the present run. @returns the book as it is where none runs */
export function endRunning({ running, ...book }: RunBook, outcome: RunOutcome, endedAt: string): RunBook {
  if (running === undefined) return book;
  const { id, bodyHash, acceptedAt, turn, startedAt, vm, lost } = running;
  const ended = {
    id,
    bodyHash,
    acceptedAt,
    turn,
    startedAt,
    endedAt,
    vm,
    ...defined({ lost }),
    outcome: bounded(outcome),
  };
  return { ...book, ended: withEnded(book.ended, ended) };
}

/** Notes that a file is written beside the runs. */
export function writeFiles(book: RunBook): RunBook {
  return book.turn > 0 || book.hasFiles === true ? book : { ...book, hasFiles: true };
}

/**
 * Notes that the workspace is lost, or what was changed in it after `restoredTurn`.
 * @returns the book as it is where nothing was in it
 */
export function loseWorkspace({ hasFiles, ...book }: RunBook, reason: string, restoredTurn?: number): RunBook {
  const wasEmpty = book.turn === 0 && hasFiles === undefined;
  if (wasEmpty || book.lost !== undefined) return book;
  return { ...book, lost: { afterTurn: book.turn, reason: boundedText(reason), ...defined({ restoredTurn }) } };
}

/** Adds the ids that the thread had used before this session. */
export function withUsedIds(book: RunBook, known: Pick<KnownRunIds, 'mayHave'>): RunBook {
  return { ...book, waiting: book.waiting.map((run) => ({ ...run, mayBeKnown: known.mayHave(run.idSha256) })) };
}

/** Ends a run that waits. @returns the book as it is where that id does not wait */
export function endWaiting(book: RunBook, id: string, outcome: RunOutcome, endedAt: string): RunBook {
  const run = book.waiting.find((waiting) => waiting.id === id);
  if (run === undefined) return book;
  const { bodyHash, acceptedAt } = run;
  return {
    ...book,
    waiting: book.waiting.filter((waiting) => waiting !== run),
    ended: withEnded(book.ended, { id, bodyHash, acceptedAt, endedAt, outcome: bounded(outcome) }),
  };
}

/** @returns the last ends, with one more */
export function withEnded(ended: readonly EndedRun[], run: EndedRun): readonly EndedRun[] {
  return [...ended, run].slice(-RECENT_RUNS);
}
