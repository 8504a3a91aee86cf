/** The stages of a workload and the one table of legal moves between them. */

import { isFinalState, isLegalMove, isStateOf, type Lifecycle } from '../lifecycle/lifecycle.ts';
import type { Stage } from './stage-names.ts';

export { STAGES, type Stage } from './stage-names.ts';

/** Every legal move. A final stage has none: a retry is a new workload. */
export const TRANSITIONS: Readonly<Record<Stage, readonly Stage[]>> = {
  pending: ['validate', 'stopped', 'failed'],
  validate: ['build', 'stopped', 'failed'],
  build: ['deploy', 'stopped', 'failed'],
  deploy: ['running', 'stopped', 'failed'],
  running: ['stopped', 'failed'],
  stopped: [],
  failed: [],
};

export const INITIAL_STAGE: Stage = 'pending';

/** The table as workflow and projector apply it. */
export const WORKLOAD_LIFECYCLE: Lifecycle<Stage> = {
  noun: 'workload',
  initial: INITIAL_STAGE,
  moves: TRANSITIONS,
  lawfulClose: { completed: ['stopped'], cancelled: ['stopped'], failed: ['failed'] },
};

/** @returns whether `value` names a stage. */
export function isStage(value: unknown): value is Stage {
  return isStateOf(WORKLOAD_LIFECYCLE, value);
}

/** @returns whether the table allows a workload to move from one stage to the other. */
export function canMove(from: Stage, to: Stage): boolean {
  return isLegalMove(WORKLOAD_LIFECYCLE, from, to);
}

/** @returns whether nothing can follow `stage`. */
export function isFinal(stage: Stage): boolean {
  return isFinalState(WORKLOAD_LIFECYCLE, stage);
}
