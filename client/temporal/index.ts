/** What the package offers to backend services that have a Temporal connection of their own. */
export { type FailureCode, isKilnError, KilnError } from '../../domain/failures.ts';
export { isFinal, STAGES, type Stage } from '../../domain/stages.ts';
export type { WorkloadRequest, WorkloadState } from '../../domain/workload.ts';
export type { ClientTimings } from './client-timings.ts';
export type { ArchivedExecution, Release, WorkloadArchive } from './workload-archive.ts';
export {
  createWorkloadClient,
  type ListWorkloads,
  type StopOptions,
  type WorkloadClient,
  type WorkloadClientOptions,
  type WorkloadSnapshot,
} from './workload-client.ts';
