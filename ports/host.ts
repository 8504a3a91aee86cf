/** What a host offers to activities: capacity, VMs, egress, its pool. Types only; see `ports/README.md`. */
import type { HostCapacity } from '../domain/capacity/host-entry.ts';
import type { PoolStatus } from '../domain/pool/pool-status.ts';
import type { VmExit, VmOwner, VmStart, VmStatus } from '../domain/vm.ts';
import type { Resources } from '../domain/workload/workload.ts';
import type { AgentChannel } from './guest-agent.ts';
import type { WaitExitOptions } from './vm-driver.ts';

export interface CapacityLedger {
  /**
   * Find-or-create by id; a known id is renewed.
   * @returns false where it does not fit now. @throws NO_CAPACITY where it can never fit
   */
  reserve(request: {
    id: string;
    ownerWorkflowId: string;
    resources: Resources;
    ttlMs: number;
    /** For a VM that is paused: its CPUs stand still, and the memory is what was measured, the VMM's with it. */
    atRest?: boolean;
    /** Id of another reservation that is needed at the same time. */
    beside?: string;
    /**
     * Where it does not fit it gets a place in the host's line, or keeps the one it has, for so long: what has no place,
     * and who came later, leave it its room. ms
     */
    waitsMs?: number;
  }): Promise<boolean>;
  /** How many wait before this one; without an id: how many wait. */
  ahead(id: string | undefined): number;
  /** Resolves when something is freed. Take it before the question that decides whether to wait. */
  freed(signal: AbortSignal): Promise<void>;
  /** Unknown id: does nothing. */
  release(id: string): Promise<void>;
  /** `of`: as that reservation finds it, without what those behind it in the line wait for. */
  totals(of?: string): Promise<{ capacity: HostCapacity; free: HostCapacity }>;
}

/** The VMs of one host with their disks, channels, ports and logs. */
export interface VmHost {
  readonly hostId: string;
  /** Disks for the VM and its instance record. @throws DISK_FULL, IMAGE_MISSING, CONFLICT */
  provision(request: {
    vmId: string;
    owner: VmOwner;
    imageDigest: string;
    resources: Resources;
    /** Boots cold even where there is a template. */
    cold?: boolean;
    signal?: AbortSignal;
  }): Promise<{ provisioner: string; provisionMs: number; start: VmStart }>;
  /**
   * Starts the VM until its agent is configured: by booting or from a template, as decided when it was provisioned.
   * Finds a VM that runs already. `bootMs` counts from the call. @throws TEMPLATE_CORRUPT where the next try should be
   * a cold one
   */
  boot(request: { vmId: string; hostname: string; deadlineMs: number; signal?: AbortSignal }): Promise<{
    pid: number;
    bootMs: number;
    start: VmStart;
  }>;
  /** The VM's channel, opened again where it was lost. @throws NOT_FOUND, VMM_EXITED, AGENT_TIMEOUT */
  agent(vmId: string): Promise<AgentChannel>;
  /** Names and ports that the guest may reach from now on; by default none. */
  setEgress(vmId: string, policy: EgressPolicy, signal?: AbortSignal): Promise<void>;
  /** Opens (or finds) the host listener of a guest port. @throws PORT_IN_USE, PORT_NOT_ALLOWED */
  openPort(request: { vmId: string; guestPort: number; hostPort?: number }): Promise<{ port: number; url: string }>;
  /**
   * Checks that a VM belongs to this owner. A VM without a record belongs to nobody yet.
   * @throws CONFLICT where it belongs to another workflow, or to another placement
   */
  assertOwner(
    vmId: string,
    owner: { readonly workflowId: string; readonly epoch: number; readonly firstExecutionId?: string },
  ): Promise<void>;
  /**
   * Releases the VMs that are left here of earlier placements of this owner: only its newest VM may live.
   * @returns whose they were
   */
  releaseOlder(owner: VmOwner): Promise<readonly VmOwner[]>;
  status(vmId: string): Promise<VmStatus>;
  waitExit(vmId: string, options?: WaitExitOptions): Promise<VmExit>;
  /** Port, channel, process, disks, files, record: in that order, each proven gone. Unknown id: does nothing. */
  release(vmId: string, options: { graceMs: number }): Promise<void>;
}

/** Maintenance of this host's ready VMs, for a workflow. */
export interface PoolMaintenance {
  /** One round; failures are logged, and the next round makes up for them. */
  maintain(signal: AbortSignal): Promise<PoolStatus>;
}

export interface EgressPolicy {
  /** `host:port` or `*.domain:port`. Empty = nothing. */
  readonly allow: readonly string[];
  /** `host:port` of `allow` for which private addresses are accepted (the configured package registries). */
  readonly privateAllowed: readonly string[];
}
