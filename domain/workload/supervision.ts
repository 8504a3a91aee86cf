import type { HealthCheck, ServiceExit } from './workload.ts';

/** What ended, as a supervisor saw it. Plain data: to observe an exit is a success of the observer. */
export type Observation =
  | { readonly kind: 'service-exited'; readonly exit: ServiceExit; readonly tail: string }
  | { readonly kind: 'unhealthy'; readonly message: string }
  | { readonly kind: 'vm-gone'; readonly code: 'VMM_EXITED' | 'GUEST_CRASHED'; readonly message: string }
  /** The VM or its service was taken down by the workflow itself. */
  | { readonly kind: 'stopped' };

/** Health of a service over time, computed from single checks. */
export interface HealthState {
  readonly failuresInRow: number;
  readonly everHealthy: boolean;
}

export const UNKNOWN_HEALTH: HealthState = { failuresInRow: 0, everHealthy: false };

/** @returns the state after one more check. */
export function nextHealth(state: HealthState, healthy: boolean): HealthState {
  return healthy
    ? { failuresInRow: 0, everHealthy: true }
    : { failuresInRow: state.failuresInRow + 1, everHealthy: state.everHealthy };
}

/** @returns whether there are enough failures in a row to end the workload. */
export function isUnhealthy(state: HealthState, check: HealthCheck): boolean {
  return state.failuresInRow >= check.failures;
}
