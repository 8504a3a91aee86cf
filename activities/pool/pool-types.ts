/** Signature of the activity that keeps a pool in order. */
import type { PoolRound } from '../../domain/pool/pool-round.ts';

export interface PoolActivities {
  /** Looks images up, makes templates anew, recycles ready VMs and fills up. @returns what the pool is then */
  maintainPool(): Promise<PoolRound>;
}
