/** What the package offers to programs that speak to Kiln over HTTP. */

export type { Deployment } from '../../contracts/deployment.ts';
export type { DevStack } from '../../contracts/dev-stack.ts';
export type { Problem } from '../../contracts/problem.ts';
export type { UploadedSource } from '../../contracts/source.ts';
export type { CreateWorkloadBody } from '../../contracts/workload-request.ts';
export type {
  WorkloadHistoryView,
  WorkloadPage,
  WorkloadSummary,
  WorkloadView,
} from '../../contracts/workload-view.ts';
export { type FailureCode, isKilnError, KilnError } from '../../domain/failures.ts';
export type { LogEntry } from '../../domain/log-entry.ts';
export { isFinal, STAGES, type Stage } from '../../domain/stages.ts';
export { type CallOptions, createKilnClient, type KilnClient, type KilnClientOptions } from './kiln-client.ts';
export type { LogEvent, LogStreamOptions } from './log-events.ts';
