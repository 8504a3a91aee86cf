/** The stages of a workload, in the order of a life without failures. */
export const STAGES = ['pending', 'validate', 'build', 'deploy', 'running', 'stopped', 'failed'] as const;

export type Stage = (typeof STAGES)[number];
