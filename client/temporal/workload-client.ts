/** Workloads for backend services: starts, reads, stops and lists them in Temporal directly, without the REST API. */
import type { Client } from '@temporalio/client';
import type { WorkloadHistoryView, WorkloadPage } from '../../contracts/workload-view.ts';
import { CONTROL_QUEUE } from '../../domain/names.ts';
import type { WorkloadPolicyOverrides } from '../../domain/policies.ts';
import type { Stage } from '../../domain/stages.ts';
import type { WorkloadRequest, WorkloadState } from '../../domain/workload.ts';
import type { StopRequest } from '../../domain/workload-input.ts';
import { createWorkload } from './create-workload.ts';
import { listWorkloads } from './list-workloads.ts';
import { readWorkload } from './read-workload.ts';
import { stopWorkload } from './stop-workload.ts';
import type { WorkloadArchive } from './workload-archive.ts';
import { workloadHistory } from './workload-history.ts';

export interface WorkloadClientOptions {
  readonly client: Client;
  /** The documents of workloads, e.g. `createWorkloadDocuments` of the store. */
  readonly archive: WorkloadArchive;
  readonly timings?: Partial<ClientTimings>;
  /** Overrides of timeouts and retries, given to every workload that this client starts. */
  readonly policies?: WorkloadPolicyOverrides;
  /** @returns the page of a workload's logs, shown in the Temporal Web UI. */
  readonly logsUrl?: (workloadId: string) => string;
  readonly taskQueue?: string;
}

export interface ClientTimings {
  /** Deadline of one call of the Temporal frontend. */
  readonly callMs: number;
  /** Deadline of a query, which a worker has to answer. */
  readonly queryMs: number;
  /** A poller that was not seen for so long counts as gone. A poll takes up to a minute. */
  readonly pollerFreshMs: number;
}

export const DEFAULT_CLIENT_TIMINGS: ClientTimings = { callMs: 10_000, queryMs: 2_000, pollerFreshMs: 70_000 };

/** A workload as it is known now. */
export interface WorkloadSnapshot {
  readonly state: WorkloadState;
  /** Image reference as asked for. */
  readonly requestedImage?: string;
  /** Host that it is or was placed on last. */
  readonly hostId?: string;
  /** Execution that it runs or ran in, while Temporal knows it. */
  readonly execution?: { readonly workflowId: string; readonly executionId: string };
  /**
   * Who said so: the workflow itself, the archive of its result, Temporal's record of it where no worker answered
   * (stage and times only), or the request alone, which was accepted and not yet started.
   */
  readonly origin: 'workflow' | 'archive' | 'temporal' | 'request';
}

export interface ListWorkloads {
  readonly stage?: Stage;
  readonly deploymentId?: string;
  readonly projectId?: string;
  readonly cursor?: string;
  readonly limit: number;
}

export interface StopOptions extends StopRequest {
  /** How long to wait for the final state; 0: not at all. */
  readonly waitMs: number;
}

export interface WorkloadClient {
  /**
   * Finds or creates. The same id with the same request, however often and however late, is the same workload.
   * @param id minted where absent
   * @throws SPEC_INVALID, CONFLICT (id taken by another request), STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE: repeat it
   */
  create(request: WorkloadRequest, id?: string): Promise<{ snapshot: WorkloadSnapshot; created: boolean }>;
  /** @throws NOT_FOUND, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE */
  get(id: string): Promise<WorkloadSnapshot>;
  /** What Temporal remembers, newest first. @throws SPEC_INVALID (cursor), TEMPORAL_UNAVAILABLE */
  list(query: ListWorkloads): Promise<WorkloadPage>;
  /** Idempotent. `settled`: whether the final stage was reached in time. @throws NOT_FOUND, TEMPORAL_UNAVAILABLE */
  stop(id: string, options: StopOptions): Promise<{ snapshot: WorkloadSnapshot; settled: boolean }>;
  /** The moves, folded from the events. @throws NOT_FOUND, TEMPORAL_UNAVAILABLE, INVALID_TRANSITION */
  history(id: string): Promise<WorkloadHistoryView>;
}

/** What the parts of the client share. */
export interface ClientContext {
  readonly client: Client;
  readonly archive: WorkloadArchive;
  readonly timings: ClientTimings;
  readonly policies?: WorkloadPolicyOverrides;
  readonly logsUrl?: (workloadId: string) => string;
  readonly taskQueue: string;
}

/** @returns a client over a Temporal connection and the documents of workloads. Nothing is called yet. */
export function createWorkloadClient(options: WorkloadClientOptions): WorkloadClient {
  const context: ClientContext = {
    ...options,
    timings: { ...DEFAULT_CLIENT_TIMINGS, ...options.timings },
    taskQueue: options.taskQueue ?? CONTROL_QUEUE,
  };
  return {
    create: (request, id) => createWorkload(context, request, id),
    get: (id) => readWorkload(context, id),
    list: (query) => listWorkloads(context, query),
    stop: (id, request) => stopWorkload(context, id, request),
    history: (id) => workloadHistory(context, id),
  };
}
