/** Every number of a host's pools that may be set. */
import type { PoolSettingOverrides } from '../../domain/pool/pool-policy.ts';
import type { YieldToBoots } from './pool-filling.ts';
import type { WarmPool } from './vm-pool.ts';

export interface HostPoolSettings {
  /** What the configuration says; `pool_size` 0: no pool. */
  readonly limits: PoolSettingOverrides;
  /** Pools that stand from the start. */
  readonly warm: readonly WarmPool[];
  /** How long a request waits for a VM that is being made already, ms. */
  readonly claimWaitMs: number;
  /** VMs made at a time. */
  readonly maxCreating: number;
  /** Pause before VMs are made again where the host was full, or one could not be made, ms. */
  readonly blockedMs: number;
  /** How filling gives way to guests of workloads that start. */
  readonly yieldToBoots: Pick<YieldToBoots, 'maxMs' | 'lookAgainMs'>;
  readonly bootMs: number;
  readonly reservationTtlMs: number;
}
