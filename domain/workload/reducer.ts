import { applyTransition } from '../lifecycle/lifecycle.ts';
import { INITIAL_STAGE, type Stage, WORKLOAD_LIFECYCLE } from './stages.ts';
import type { StageMove } from './workload.ts';

/** The moves of a workload so far, and its stage. */
export interface StageLedger {
  readonly stage: Stage;
  readonly moves: readonly StageMove[];
}

/**
 * Adds one move, for the running workflow.
 * @throws KilnError INVALID_TRANSITION where the table has no such move.
 */
export function applyMove(ledger: StageLedger, next: { to: Stage; at: string; cause: string }): StageLedger {
  const { stage: state, moves } = ledger;
  const moved = applyTransition(WORKLOAD_LIFECYCLE, { state, moves }, next);
  return { stage: moved.state, moves: moved.moves };
}

/** @returns the stages in the order they were entered, the initial one first. */
export function stagesOf(ledger: StageLedger): Stage[] {
  return [INITIAL_STAGE, ...ledger.moves.map((move) => move.to)];
}
