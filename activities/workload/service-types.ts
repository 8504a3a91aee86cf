/** Signatures of the activities that build, start, watch and end a workload's service, and close its books. */
import type { Observation } from '../../domain/workload/supervision.ts';
import type {
  Resources,
  ServiceExit,
  ServiceManifest,
  ServiceNeeds,
  WorkloadState,
} from '../../domain/workload/workload.ts';
import type { CarriedLogLine } from '../../domain/workload/workload-input.ts';
import type { OwnerClaim, WorkloadRef } from '../vm/vm-types.ts';

export type ControlLogLine = CarriedLogLine;

export interface BookActivities {
  /** Writes the outcome and the last control log line; after that the record no longer needs Temporal. */
  closeBooks(input: { state: WorkloadState; logLines: readonly ControlLogLine[] }): Promise<void>;
}

export interface ServiceActivities {
  /**
   * @returns also what the service needs, where its folder asks for more or other than the request
   * @throws SERVICE_NOT_FOUND, MANIFEST_MISSING, CONFIG_INVALID, DEPENDENCY_UNDECLARED, ENV_MISSING
   */
  validateService(
    input: WorkloadRef & { servicePath: string; specHash: string },
  ): Promise<{ manifest: ServiceManifest; needs?: ServiceNeeds }>;
  /** Builds in a VM of the given name, or finds the output in the cache. On success the VM is gone again. */
  buildService(
    input: WorkloadRef & {
      servicePath: string;
      specHash: string;
      manifest: ServiceManifest;
      imageDigest: string;
      builder: {
        vmId: string;
        owner: OwnerClaim;
        resources: Resources;
        reservationTtlMs: number;
        bootMs: number;
        cold?: boolean;
      };
    },
  ): Promise<BuildResult>;
  startService(
    input: WorkloadRef & {
      vmId: string;
      specHash: string;
      manifest: ServiceManifest;
      build: BuildResult;
      port: number;
      hostPort?: number;
    },
  ): Promise<{ port: number; url: string; servicePid: number }>;
  /** Returns once the service answers. @throws HEALTH_FAILED, SERVICE_EXITED, DEPENDENCY_UNDECLARED, VMM_EXITED */
  checkHealth(
    input: WorkloadRef & { vmId: string; manifest: ServiceManifest; port: number },
  ): Promise<{ readyMs: number }>;
  /** Watches until something ends; heartbeats. */
  superviseVm(input: WorkloadRef & { vmId: string; manifest: ServiceManifest; port: number }): Promise<Observation>;
  /** SIGTERM, grace, SIGKILL to the service's process group. For a service that has already ended, reports that end. */
  stopService(input: WorkloadRef & { vmId: string; graceMs: number }): Promise<{ exit: ServiceExit }>;
}

export interface BuildResult {
  readonly sha256: string;
  readonly bytes: number;
  /** Whether the output came from the cache. */
  readonly cached: boolean;
}
