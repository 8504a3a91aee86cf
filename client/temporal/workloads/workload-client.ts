/** Workloads for backend services: starts, reads, stops and lists them directly in Temporal, without the REST API. */
import type { Client } from '@temporalio/client';
import type { WorkloadHistoryView, WorkloadPage } from '../../../contracts/api/workload-view.ts';
import type { PortRange } from '../../../domain/host-ports.ts';
import { CONTROL_QUEUE } from '../../../domain/names.ts';
import type { WorkloadPolicyOverrides } from '../../../domain/policies.ts';
import type { WorkloadRequest } from '../../../domain/workload/workload.ts';
import type { WorkloadArchive } from '../archive/workload-archive.ts';
import type { ClientContext, ListWorkloads, StopOptions, WorkloadSnapshot } from '../client-context.ts';
import { type ClientTimings, DEFAULT_CLIENT_TIMINGS } from '../client-timings.ts';
import { createWorkload } from './create-workload.ts';
import { listWorkloads } from './list-workloads.ts';
import { readWorkload } from './read-workload.ts';
import { stopWorkload } from './stop-workload.ts';
import { workloadHistory } from './workload-history.ts';

export type { ListWorkloads, StopOptions, WorkloadSnapshot } from '../client-context.ts';

export interface WorkloadClientOptions {
  readonly client: Client;
  /** The documents of workloads, e.g. `createWorkloadDocuments` of the store. */
  readonly archive: WorkloadArchive;
  readonly timings?: Partial<ClientTimings>;
  /** Overrides of timeouts and retries for every workload that this client starts. */
  readonly policies?: WorkloadPolicyOverrides;
  /** Host ports that new workloads may request; absent: the host alone checks, when it opens the port. */
  readonly hostPorts?: PortRange;
  /** The operator's KILN_EGRESS_PRIVATE: guests use these ports for their own connections; absent: nothing is checked. */
  readonly privateNames?: readonly string[];
  /** @returns the page of a workload's logs, shown in the Temporal Web UI. */
  readonly logsUrl?: (workloadId: string) => string;
  readonly taskQueue?: string;
}

export interface WorkloadClient {
  /**
   * Finds or creates. The same id with the same request is always the same workload, however often and however late.
   * @param id minted where absent
   * @throws SPEC_INVALID, PORT_NOT_ALLOWED, NOT_FOUND (no such deployment), CONFLICT (id taken by another request);
   *   STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE: repeat the call
   */
  create(request: WorkloadRequest, id?: string): Promise<{ snapshot: WorkloadSnapshot; created: boolean }>;
  /** @throws NOT_FOUND, STORE_UNAVAILABLE, TEMPORAL_UNAVAILABLE */
  get(id: string): Promise<WorkloadSnapshot>;
  /** The workloads that Temporal still has, newest first. @throws SPEC_INVALID (cursor), TEMPORAL_UNAVAILABLE */
  list(query: ListWorkloads): Promise<WorkloadPage>;
  /** Idempotent. `settled`: whether the final stage was reached in time. @throws NOT_FOUND, TEMPORAL_UNAVAILABLE */
  stop(id: string, options: StopOptions): Promise<{ snapshot: WorkloadSnapshot; settled: boolean }>;
  /** The moves, computed from the events. @throws NOT_FOUND, TEMPORAL_UNAVAILABLE, INVALID_TRANSITION */
  history(id: string): Promise<WorkloadHistoryView>;
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
