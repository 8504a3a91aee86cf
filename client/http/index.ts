/** What the package offers to programs that use Kiln over HTTP. */

export type { Deployment } from '../../contracts/api/deployment.ts';
export type { Problem } from '../../contracts/api/problem.ts';
export type { CreateSessionBody, RunRequestBody, SessionSettingsRequest } from '../../contracts/api/session-request.ts';
export type { RunView, SessionPage, SessionSummary, SessionView } from '../../contracts/api/session-view.ts';
export type { UploadedSource } from '../../contracts/api/source.ts';
export type { CreateWorkloadBody } from '../../contracts/api/workload-request.ts';
export type {
  WorkloadHistoryView,
  WorkloadPage,
  WorkloadSummary,
  WorkloadView,
} from '../../contracts/api/workload-view.ts';
export type { DevStack } from '../../contracts/host/dev-stack.ts';
export { type FailureCode, isKilnError, KilnError } from '../../domain/failures.ts';
export type { LogEntry } from '../../domain/logs/log-entry.ts';
export { isFinal, STAGES, type Stage } from '../../domain/workload/stages.ts';
export { type CallOptions, createKilnClient, type KilnClient, type KilnClientOptions } from './kiln-client.ts';
export type { LogEvent, LogStreamOptions } from './log-events.ts';
export type { Run } from './sessions/run.ts';
export type { RunChunk } from './sessions/run-chunks.ts';
export type { RunOutputEvent, RunOutputOptions } from './sessions/run-output.ts';
export type { CommandOptions, Session, SessionOptions } from './sessions/session.ts';
