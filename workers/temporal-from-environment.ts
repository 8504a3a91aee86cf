import type { KilnEnvironment } from '../config/environment.ts';
import type { TemporalAddress } from '../temporal/connection.ts';

/** How long a process waits for a Temporal server that is still starting, ms. */
export const CONNECT_PATIENCE = { deadlineMs: 60_000, retryMs: 200 };

/**
 * A host waits for Temporal without limit: its adopted VMs go on serving, and every new host process would cut all
 * connections once more.
 */
export const HOST_PATIENCE = { ...CONNECT_PATIENCE, deadlineMs: Number.POSITIVE_INFINITY, attemptMs: 5_000 };

/** @returns where Temporal is; the CLI's own default where nothing is set. */
export function temporalFromEnvironment(env: KilnEnvironment): TemporalAddress {
  return { address: env.TEMPORAL_ADDRESS ?? '127.0.0.1:7233', namespace: env.TEMPORAL_NAMESPACE };
}
