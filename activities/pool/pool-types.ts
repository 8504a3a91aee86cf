/** Signature of the activity that keeps a pool in order. */
import type { PoolRound } from '../../domain/pool/pool-round.ts';

export interface PoolActivities {
  /** Resolves images, renews templates, recycles ready VMs, fills the pool. @returns the pool after that */
  maintainPool(): Promise<PoolRound>;
}
