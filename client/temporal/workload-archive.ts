import type { SpecDocument } from '../../contracts/workload-documents.ts';
import type { WorkloadState } from '../../domain/workload.ts';

/** What the client needs of the object store: the documents that outlive Temporal's retention. */
export interface WorkloadArchive {
  /** Writes the spec where the id is free. @returns the document that stands there now, ours or an earlier one. */
  createSpec(document: SpecDocument): Promise<SpecDocument>;
  specDocument(workloadId: string): Promise<SpecDocument | undefined>;
  markStarted(workloadId: string, startedAt: string): Promise<void>;
  wasStarted(workloadId: string): Promise<boolean>;
  /** @returns the final state, or undefined where none was written. */
  result(workloadId: string): Promise<WorkloadState | undefined>;
  /** Writes the final state once; a second write changes nothing. */
  writeResult(state: WorkloadState): Promise<void>;
}
