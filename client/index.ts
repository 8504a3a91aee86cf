/** What the package offers to backend services: one function that opens everything. */
export { type FailureCode, isKilnError, KilnError } from '../domain/failures.ts';
export type { LogEntry } from '../domain/logs/log-entry.ts';
export { isFinal, STAGES, type Stage } from '../domain/workload/stages.ts';
export type { StageMove, WorkloadFailure, WorkloadRequest, WorkloadState } from '../domain/workload/workload.ts';
export { type ConnectKilnOptions, connectKiln, type Kiln, type Workloads } from './connect/connect-kiln.ts';
export type { TemporalAddressOptions, TemporalOptions } from './connect/open-temporal.ts';
export type { KilnStoreOptions } from './store/kiln-store.ts';
export type { FollowOptions, WorkloadEvent } from './temporal/follow-workload.ts';
export type { ListWorkloads, StopOptions, WorkloadSnapshot } from './temporal/workloads/workload-client.ts';
