/** Signatures of the activities that build a workload's service, start it, watch it and end it, and that close its books. */
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
  /** Writes outcome and last control log line; afterwards the record no longer needs Temporal. */
  closeBooks(input: { state: WorkloadState; logLines: readonly ControlLogLine[] }): Promise<void>;
}

export interface ServiceActivities {
  /**
   * @returns also what the service needs, where its folder asks for something else than the request alone
   * @throws SERVICE_NOT_FOUND, MANIFEST_MISSING, CONFIG_INVALID, DEPENDENCY_UNDECLARED, ENV_MISSING
   */
  validateService(
    input: WorkloadRef & { servicePath: string; specHash: string },
  ): Promise<{ manifest: ServiceManifest; needs?: ServiceNeeds }>;
  /** Builds in a VM of the given name, or finds the output in the cache. The VM is gone again when this succeeds. */
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
  /** SIGTERM, grace, SIGKILL to the service's process group. A service that is gone already is told as it ended. */
  stopService(input: WorkloadRef & { vmId: string; graceMs: number }): Promise<{ exit: ServiceExit }>;
}

export interface BuildResult {
  readonly sha256: string;
  readonly bytes: number;
  /** Whether the output came from the cache. */
  readonly cached: boolean;
}
