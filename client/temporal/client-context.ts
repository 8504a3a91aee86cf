/** Types that the parts of the client share. */
import type { Client } from '@temporalio/client';
import type { PortRange } from '../../domain/host-ports.ts';
import type { WorkloadPolicyOverrides } from '../../domain/policies.ts';
import type { Stage } from '../../domain/workload/stages.ts';
import type { WorkloadState } from '../../domain/workload/workload.ts';
import type { StopRequest } from '../../domain/workload/workload-input.ts';
import type { Release, WorkloadArchive } from './archive/workload-archive.ts';
import type { ClientTimings } from './client-timings.ts';

/** A workload as it is known now. */
export interface WorkloadSnapshot {
  readonly state: WorkloadState;
  /** Image reference of the request. */
  readonly requestedImage?: string;
  /** Host of its last placement. */
  readonly hostId?: string;
  /** Its last execution, while Temporal has it. */
  readonly execution?: { readonly workflowId: string; readonly executionId: string };
  /** Its workflow is open: also in a final stage, until the last lines of its log and its result are written. */
  readonly isOpen?: true;
  /**
   * Where this comes from: the workflow itself; the archive of its result; Temporal's record, where no worker answered
   * (stage and times only); or only the request, which was accepted and not yet started.
   */
  readonly origin: 'workflow' | 'archive' | 'temporal' | 'request';
  /** Later releases of `state.unreleased`: the hosts that hold nothing of it any more. */
  readonly releases?: readonly Release[];
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

/** What the parts of the client share. */
export interface ClientContext {
  readonly client: Client;
  readonly archive: WorkloadArchive;
  readonly timings: ClientTimings;
  readonly policies?: WorkloadPolicyOverrides;
  readonly hostPorts?: PortRange;
  readonly privateNames?: readonly string[];
  readonly logsUrl?: (workloadId: string) => string;
  readonly taskQueue: string;
}
