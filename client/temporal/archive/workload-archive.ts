import type { SpecDocument } from '../../../contracts/store/workload-documents.ts';
import type { WorkloadState } from '../../../domain/workload/workload.ts';

/** What the client uses of the object store: the documents that outlive Temporal's retention. */
export interface WorkloadArchive {
  /** Writes the spec where the id is free. @returns the document that exists now: ours, or an earlier one. */
  createSpec(document: SpecDocument): Promise<SpecDocument>;
  specDocument(workloadId: string): Promise<SpecDocument | undefined>;
  /** Whether a deployment exists that workloads can name. */
  hasDeployment(deploymentId: string): Promise<boolean>;
  markStarted(workloadId: string, startedAt: string): Promise<void>;
  wasStarted(workloadId: string): Promise<boolean>;
  /** @returns the final state, or undefined where none was written. */
  result(workloadId: string): Promise<WorkloadState | undefined>;
  /** Writes the final state once; a second write changes nothing. */
  writeResult(state: WorkloadState): Promise<void>;
  /**
   * The recorded executions, the first one first, their bytes checked; undefined where not all are recorded.
   * @throws ARCHIVE_CORRUPT
   */
  history(workloadId: string): Promise<ArchivedExecution[] | undefined>;
  /** The same up to one execution, of a workload that may still run. @throws ARCHIVE_CORRUPT */
  historyUpTo(workloadId: string, executionId: string): Promise<ArchivedExecution[] | undefined>;
  /** Hosts that hold nothing of the workload any more, although its end left something there. */
  releases(workloadId: string): Promise<readonly Release[]>;
}

/** One execution as it was recorded. */
export interface ArchivedExecution {
  readonly executionId: string;
  readonly events: number;
  /** The history as JSON, in the form of the SDK's `historyToJSON`. */
  readonly history: unknown;
}

export interface Release {
  readonly hostId: string;
  /** ISO 8601, when it was proven. */
  readonly freedAt: string;
}
