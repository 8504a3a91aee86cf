import { PRIORITIES, type Priority } from '../capacity/priority.ts';
import { KilnError } from '../failures.ts';
import type { LogLevel } from '../logs/log-entry.ts';
import { WORKLOAD_ID_PATTERN } from '../names.ts';
import type { WorkloadPolicyOverrides } from '../policies.ts';
import type { Stage } from './stages.ts';
import type { Resources, ServiceManifest, WorkloadState } from './workload.ts';

/** Input of `workloadWorkflow`: a reference to the spec document and what placement needs. No environment variables. */
export interface WorkloadInput {
  readonly schemaVersion: 1;
  readonly workloadId: string;
  /** sha256 (hex) of the canonical request, as in the spec document. */
  readonly specHash: string;
  readonly servicePath: string;
  readonly deploymentId?: string;
  readonly projectId?: string;
  /** Image reference of the request; the workflow resolves it to a digest once. */
  readonly image: string;
  readonly resources: Resources;
  /** Absent: the default. */
  readonly priority?: Priority;
  /** Guest port of the service. */
  readonly port: number;
  readonly hostPort?: number;
  /** ISO 8601, when the request was accepted. */
  readonly requestedAt: string;
  readonly policies?: WorkloadPolicyOverrides;
  /** Page of the logs, shown in the current details. */
  readonly logsUrl?: string;
  /** What an earlier execution of the same workload passed on by continue-as-new. */
  readonly carried?: CarriedWorkload;
}

/** State that survives continue-as-new; only a running workload continues as new. */
export interface CarriedWorkload {
  readonly state: WorkloadState;
  readonly controlLogLines: number;
  readonly pendingLogLines: readonly CarriedLogLine[];
  readonly reservationId: string;
  readonly manifest: ServiceManifest;
}

/** A line of the control writer that is not in the store yet. */
export interface CarriedLogLine {
  readonly epoch: number;
  readonly n: number;
  /** ISO 8601, when it happened. */
  readonly timestamp: string;
  readonly stage: Stage;
  readonly level: LogLevel;
  readonly message: string;
}

/** Payload of the `stop` signal. Optional, so that the button of the Web UI works. */
export interface StopRequest {
  readonly reason?: string;
  readonly by?: string;
}

/**
 * First line of the workflow: a caller that starts one without the client gets a clear answer.
 * @throws KilnError SPEC_INVALID
 */
export function assertWorkloadInput(input: unknown): asserts input is WorkloadInput {
  if (typeof input !== 'object' || input === null) throw invalid('must be an object');
  const fields: Record<string, unknown> = { ...input };
  if (fields.schemaVersion !== 1) throw invalid('schemaVersion must be 1');
  if (typeof fields.workloadId !== 'string' || !WORKLOAD_ID_PATTERN.test(fields.workloadId)) {
    throw invalid('workloadId must be 1 to 40 characters of a-z, 0-9 and -');
  }
  for (const name of ['specHash', 'servicePath', 'image', 'requestedAt']) {
    if (typeof fields[name] !== 'string' || fields[name] === '') throw invalid(`${name} must be a non-empty string`);
  }
  if (typeof fields.port !== 'number' || !Number.isInteger(fields.port)) throw invalid('port must be an integer');
  if (typeof fields.resources !== 'object' || fields.resources === null) throw invalid('resources must be an object');
  if (fields.priority !== undefined && !PRIORITIES.some((priority) => priority === fields.priority)) {
    throw invalid('priority must be 1 to 5');
  }
}

function invalid(what: string): KilnError {
  return new KilnError('SPEC_INVALID', `Workload input: ${what}. Start workloads by the client or the API.`);
}
