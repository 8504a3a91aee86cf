/** What the activities of maintenance need from outside. Types only; see the rules in `ports/README.md`. */
import type { ExecutionHistory } from '../contracts/store/archive.ts';
import type { HostDirectory } from './documents.ts';

/** A closed execution. */
export interface ClosedExecution {
  readonly workflowId: string;
  readonly executionId: string;
  /** ISO 8601. */
  readonly closedAt: string;
  /** Whether another execution of the same workflow continues it. */
  readonly continued: boolean;
}

/** What Temporal has of closed executions. */
export interface ClosedExecutions {
  list(query: { closedAfter?: string; pageSize: number; token?: string }): Promise<{
    items: ClosedExecution[];
    next?: string;
  }>;
  latest(workflowId: string): Promise<{ executionId: string; open: boolean } | undefined>;
  /** @throws NOT_FOUND where Temporal has forgotten it */
  fetch(workflowId: string, executionId: string): Promise<ExecutionHistory>;
  listUnreleased(limit: number): Promise<string[]>;
  /** Makes sure that the result of a finished workload is stored. */
  settleResult(
    workloadId: string,
    options: { deriveAfterMs: number; nowMs: number },
  ): Promise<'standing' | 'written' | 'derived' | 'none'>;
}

/** What was recorded of an execution. */
export interface RecordedExecution {
  readonly executionId: string;
  readonly continuedFrom?: string;
}

/** Where histories are stored. */
export interface HistoryArchive<Recorded extends RecordedExecution = RecordedExecution> {
  execution(workflowId: string, executionId: string): Promise<Recorded | undefined>;
  saveExecution(history: ExecutionHistory): Promise<Recorded>;
  whole(workflowId: string): Promise<
    | {
        readonly executions: readonly { readonly executionId: string }[];
        /** Present where what was recorded has been deleted: nothing is recorded again. */
        readonly deletedAt?: string;
      }
    | undefined
  >;
  saveWhole(workflowId: string, executions: readonly Recorded[]): Promise<void>;
  position(): Promise<string | undefined>;
  savePosition(closedBefore: string): Promise<void>;
}

export interface Pruning {
  /** Logs of workloads that ended longer ago than `keepMs`. */
  logs(options: PruneOptions): Promise<{ removed: number; next?: string }>;
  /** Uploaded sources that are older than `keepMs` and that no workload needs. */
  sources(options: PruneOptions): Promise<{ removed: number; next?: string }>;
  /** What no save of a session needs, and was written longer ago than `keepMs`; one step of a round through all sessions. */
  saves(options: Omit<PruneOptions, 'after'> & { readonly everyMs: number }): Promise<RepairedSaves>;
}

export interface RepairedSaves {
  /** Objects. */
  readonly removed: number;
  /** Sessions whose saves are damaged, in words: nothing of them was removed. */
  readonly problems: readonly string[];
  /** Whether the round goes on. */
  readonly more: boolean;
}

export interface PruneOptions {
  readonly keepMs: number;
  readonly now: number;
  readonly step: number;
  readonly after?: string;
  readonly onProgress: () => void;
}

/** What a workload left behind, and which of it was released later. */
export interface LeftBehind {
  result(workloadId: string): Promise<{ readonly unreleased: readonly { readonly hostId: string }[] } | undefined>;
  releases(workloadId: string): Promise<readonly { readonly hostId: string }[]>;
}

export interface MaintenancePorts {
  readonly closed: ClosedExecutions;
  readonly archive: HistoryArchive;
  readonly left: LeftBehind;
  readonly pruning: Pruning;
  readonly hosts: HostDirectory;
}

/** Upkeep of one host. */
export interface HostUpkeep {
  /** @returns how many VMs were destroyed */
  sweep(): Promise<{ readonly destroyed: readonly string[] }>;
  /** Records, for finished workloads, that this host holds nothing of theirs any more. */
  settleFreed(workloadIds: readonly string[]): Promise<{ freed: readonly string[]; held: readonly string[] }>;
}
