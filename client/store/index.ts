/** What the package offers to backend services with their own Temporal client: the object store. */
export { type FailureCode, isKilnError, KilnError } from '../../domain/failures.ts';
export type { StoreCredentials } from '../../store/object-store.ts';
export type { WorkloadArchive } from '../temporal/archive/workload-archive.ts';
export type { WorkloadLogs } from '../temporal/workload-logs.ts';
export { type KilnStore, type KilnStoreOptions, openKilnStore } from './kiln-store.ts';
