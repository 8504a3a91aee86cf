/** Every number of a host's pools that may be set. */
import type { PoolSettingOverrides } from '../../domain/pool/pool-policy.ts';
import type { YieldToBoots } from './pool-filling.ts';
import type { WarmPool } from './vm-pool.ts';

export interface HostPoolSettings {
  /** What the configuration says; `pool_size` 0: no pool. */
  readonly limits: PoolSettingOverrides;
  /** Pools that exist from the start. */
  readonly warm: readonly WarmPool[];
  /** How long a request waits for a VM that is already being made, ms. */
  readonly claimWaitMs: number;
  /** Most VMs made at the same time. */
  readonly maxCreating: number;
  /** Pause before VMs are made again after the host was full or a VM could not be made, ms. */
  readonly blockedMs: number;
  /** How filling pauses for starting guests of workloads. */
  readonly yieldToBoots: Pick<YieldToBoots, 'maxMs' | 'lookAgainMs'>;
  readonly bootMs: number;
  readonly reservationTtlMs: number;
}
