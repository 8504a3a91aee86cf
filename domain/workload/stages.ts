/** The stages of a workload and the one table of legal moves between them. */

export const STAGES = ['pending', 'validate', 'build', 'deploy', 'running', 'stopped', 'failed'] as const;

export type Stage = (typeof STAGES)[number];

/** Every legal move. A final stage has no way out: a retry is a new workload. */
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

/** @returns whether `value` names a stage. */
export function isStage(value: unknown): value is Stage {
  return typeof value === 'string' && Object.hasOwn(TRANSITIONS, value);
}

/** @returns whether the table allows a workload to move from one stage to the other. */
export function canMove(from: Stage, to: Stage): boolean {
  return TRANSITIONS[from].includes(to);
}

/** @returns whether nothing can follow `stage`. */
export function isFinal(stage: Stage): boolean {
  return TRANSITIONS[stage].length === 0;
}
