/** Signatures of the activities of maintenance. Counts, names and references only: no bytes of what is recorded. */
import type { HostUpkeepReport, KeepPolicies } from '../../domain/upkeep/maintenance.ts';
import type { RepairedSaves } from '../../ports/maintenance.ts';

export interface MaintenanceActivities {
  /** @returns where the next scan of closed executions may begin; empty: at the first one that Temporal still has */
  recorderPosition(): Promise<{ closedAfter?: string }>;
  saveRecorderPosition(input: { closedBefore: string }): Promise<void>;
  /**
   * Records the histories of one page of closed executions that are not recorded yet. Reports failures and leaves them
   * to the next run. @throws STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE
   */
  recordHistories(input: {
    closedAfter?: string;
    token?: string;
    pageSize: number;
    /** Executions that may still be recorded; the others of the page are only read. */
    maxRecorded: number;
    deriveAfterMs: number;
    /** Milliseconds since 1970, by Temporal's clock. */
    nowMs: number;
  }): Promise<RecordedPage>;
  /** @returns the hosts to sweep, and for which workloads each host has to say whether it still holds anything. */
  planSweeps(input: { maxUnreleased: number }): Promise<{ hosts: SweepPlan[] }>;
  /** Removes logs of workloads that ended long ago; one step. @throws STORE_UNAVAILABLE */
  pruneLogs(input: Required<Pick<KeepPolicies, 'logsMs'>> & PruneStep): Promise<PrunedStep>;
  /** Removes uploaded sources that no workload needs; one step. @throws STORE_UNAVAILABLE */
  pruneSources(input: Required<Pick<KeepPolicies, 'sourcesMs'>> & PruneStep): Promise<PrunedStep>;
  /**
   * Removes what no save of a session needs; one step of a round that begins `everyMs` after the last one at the
   * earliest, and otherwise does nothing. @throws STORE_UNAVAILABLE
   */
  repairSaves(
    input: Required<Pick<KeepPolicies, 'saveGarbageMs'>> &
      Pick<PruneStep, 'nowMs' | 'step'> & { readonly everyMs: number },
  ): Promise<RepairedSaves>;
}

export interface RecordedPage {
  readonly seen: number;
  readonly executions: number;
  readonly workflows: number;
  readonly results: number;
  readonly failed: readonly { readonly workflowId: string; readonly message: string }[];
  /** When the earliest of those closed. */
  readonly earliestFailed?: string;
  /** Whether `maxRecorded` was reached and part of this page is left. */
  readonly more: boolean;
  readonly next?: string;
}

export interface SweepPlan {
  readonly hostId: string;
  readonly workloadIds: readonly string[];
}

export interface PruneStep {
  readonly nowMs: number;
  readonly step: number;
  /** `next` of the step before. */
  readonly after?: string;
}

export interface PrunedStep {
  readonly removed: number;
  readonly next?: string;
}

/** Activities of one host. */
export interface HostUpkeepActivities {
  /** Sweeps now, then reports the workloads of which the host holds nothing any more; the archive records that. */
  sweepHost(input: { workloadIds: readonly string[] }): Promise<HostUpkeepReport>;
}
