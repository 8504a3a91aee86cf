/** A table of legal moves, and the one function that applies it: for stages of workloads, tiers of sessions and others. */
import { KilnError } from '../failures.ts';

/** How a workflow execution ended. */
export type CloseStatus = 'completed' | 'failed' | 'cancelled' | 'terminated' | 'timed-out';

export interface Lifecycle<S extends string> {
  /** What moves, for messages: `workload`. */
  readonly noun: string;
  readonly initial: S;
  /** Every legal move; a final state has none. */
  readonly moves: Readonly<Record<S, readonly S[]>>;
  /** States in which an execution may close by itself; a status that is not listed may come in any state. */
  readonly lawfulClose: Readonly<Partial<Record<CloseStatus, readonly S[]>>>;
}

/** One move between two states. */
export interface Move<S extends string> {
  readonly seq: number;
  /** ISO 8601. */
  readonly at: string;
  readonly from: S;
  readonly to: S;
  readonly cause: string;
}

/** The present state and the moves so far; of an owner that lives long, the last ones. */
export interface TransitionLedger<S extends string> {
  readonly state: S;
  readonly moves: readonly Move<S>[];
}

/** @returns the ledger of something that was just created. */
export function emptyLedger<S extends string>({ initial }: Lifecycle<S>): TransitionLedger<S> {
  return { state: initial, moves: [] };
}

/** @returns the ledger with its last moves alone; the next move goes on counting. */
export function withLastMoves<S extends string>(ledger: TransitionLedger<S>, count: number): TransitionLedger<S> {
  return ledger.moves.length <= count ? ledger : { ...ledger, moves: ledger.moves.slice(-count) };
}

/** @returns whether `value` names a state of this lifecycle. */
export function isStateOf<S extends string>({ moves }: Lifecycle<S>, value: unknown): value is S {
  return typeof value === 'string' && Object.hasOwn(moves, value);
}

/** @returns whether the table allows this move. */
export function isLegalMove<S extends string>({ moves }: Lifecycle<S>, from: S, to: S): boolean {
  return moves[from].includes(to);
}

/** @returns whether nothing can follow `state`. */
export function isFinalState<S extends string>({ moves }: Lifecycle<S>, state: S): boolean {
  return moves[state].length === 0;
}

/**
 * Adds one move: the only place where a table is applied, for running workflows and for the projector that checks a
 * recorded history.
 * @throws KilnError INVALID_TRANSITION where the table has no such move
 */
export function applyTransition<S extends string>(
  lifecycle: Lifecycle<S>,
  ledger: TransitionLedger<S>,
  next: { readonly to: S; readonly at: string; readonly cause: string },
): TransitionLedger<S> {
  const { state: from, moves } = ledger;
  if (!isLegalMove(lifecycle, from, next.to)) {
    throw new KilnError('INVALID_TRANSITION', `A ${lifecycle.noun} cannot move from ${from} to ${next.to}`, {
      from,
      to: next.to,
    });
  }
  const move: Move<S> = { seq: (moves.at(-1)?.seq ?? 0) + 1, at: next.at, from, to: next.to, cause: next.cause };
  return { state: next.to, moves: [...moves, move] };
}
