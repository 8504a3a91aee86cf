import { KilnError } from '../failures.ts';
import { canMove, INITIAL_STAGE, type Stage } from './stages.ts';
import type { StageMove } from './workload.ts';

/** Where a workload stands after a list of moves. */
export interface StageLedger {
  readonly stage: Stage;
  readonly moves: readonly StageMove[];
}

export const EMPTY_LEDGER: StageLedger = { stage: INITIAL_STAGE, moves: [] };

/**
 * Adds one move: the one place where the table is applied, for the running workflow and for the projector that judges
 * a recorded history.
 * @throws KilnError INVALID_TRANSITION where the table has no such move.
 */
export function applyMove(ledger: StageLedger, next: { to: Stage; at: string; cause: string }): StageLedger {
  if (!canMove(ledger.stage, next.to)) {
    throw new KilnError('INVALID_TRANSITION', `A workload cannot move from ${ledger.stage} to ${next.to}`, {
      from: ledger.stage,
      to: next.to,
    });
  }
  const move: StageMove = {
    seq: ledger.moves.length + 1,
    at: next.at,
    from: ledger.stage,
    to: next.to,
    cause: next.cause,
  };
  return { stage: next.to, moves: [...ledger.moves, move] };
}

/** @returns the stages in the order they were entered, the initial one first. */
export function stagesOf(ledger: StageLedger): Stage[] {
  return [INITIAL_STAGE, ...ledger.moves.map((move) => move.to)];
}
