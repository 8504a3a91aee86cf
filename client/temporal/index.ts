/** What the package offers to backend services with their own Temporal connection. */
export { type FailureCode, isKilnError, KilnError } from '../../domain/failures.ts';
export { isFinal, STAGES, type Stage } from '../../domain/workload/stages.ts';
export type { WorkloadRequest, WorkloadState } from '../../domain/workload/workload.ts';
export type { ArchivedExecution, Release, WorkloadArchive } from './archive/workload-archive.ts';
export type { ClientTimings } from './client-timings.ts';
export { type FollowOptions, followWorkload, type WorkloadEvent } from './follow-workload.ts';
export type { LogWriter, WorkloadLogs } from './workload-logs.ts';
export {
  createWorkloadClient,
  type ListWorkloads,
  type StopOptions,
  type WorkloadClient,
  type WorkloadClientOptions,
  type WorkloadSnapshot,
} from './workloads/workload-client.ts';
