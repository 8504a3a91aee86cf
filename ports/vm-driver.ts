/** VM drivers: what starts, pauses, stops and removes the process of a VM. Types only; the rules of `ports/README.md` hold. */
import type { DiskFormat, GuestIdentity, VmExit, VmOwner, VmSpec, VmStatus } from '../domain/vm.ts';
import type { AgentChannel } from './guest-agent.ts';

export interface DriverCapabilities {
  readonly usable: boolean;
  /** Why not, or what is missing, e.g. `kvm: pvm host`. */
  readonly reason?: string;
  readonly version: string;
  readonly accel: 'kvm' | 'tcg' | 'none';
  readonly diskFormats: readonly DiskFormat[];
}

/** Keeps no channel: an agent serves one at a time, and whoever was handed it holds it and brings it along. */
export interface VmDriver {
  readonly kind: 'qemu' | 'firecracker' | 'fake';
  probe(): Promise<DriverCapabilities>;
  /** Makes the VM's directory and instance record, no process. @throws CONFLICT where another owner has the id. */
  prepare(spec: VmSpec): Promise<void>;
  /**
   * Starts the process, cold or from the template of its spec, and returns once the agent has said hello and answered
   * `configure`; without an identity the agent is not configured, and no user code may run yet. A VM that runs already
   * is attached to, or found by the `agent` that the caller has of it; one that is over is never started again and fails as it did before. Whatever fails, and an abort,
   * kills the VM. @throws BOOT_TIMEOUT, VMM_EXITED, GUEST_CRASHED, AGENT_TIMEOUT, AGENT_PROTOCOL, CANCELLED, NOT_FOUND,
   * HYPERVISOR_UNAVAILABLE; from a template TEMPLATE_CORRUPT in place of the first five
   */
  start(
    vmId: string,
    options: {
      identity?: GuestIdentity;
      deadlineMs: number;
      agent?: AgentChannel | undefined;
      signal?: AbortSignal;
    },
  ): Promise<StartedVm>;
  /** After a worker restart: pid, start time and sockets checked. Never kills. @throws NOT_FOUND, VMM_EXITED, GUEST_CRASHED, AGENT_TIMEOUT */
  attach(vmId: string, options: { deadlineMs: number; signal?: AbortSignal }): Promise<StartedVm>;
  status(vmId: string): Promise<VmStatus>;
  /** Stops the guest's CPUs; its memory stays. A paused VM stays so. @throws NOT_FOUND, VMM_EXITED, GUEST_CRASHED */
  pause(vmId: string): Promise<void>;
  /**
   * Lets a paused guest go on, its clock set. A VM that runs goes on running.
   * @param options `wallClockMs` tells ms since 1970; `agent`: the channel that the caller has of it, absent: one is opened
   * @throws NOT_FOUND, VMM_EXITED, GUEST_CRASHED, AGENT_TIMEOUT
   */
  resume(
    vmId: string,
    options: {
      wallClockMs: () => number;
      deadlineMs: number;
      agent?: AgentChannel | undefined;
      signal?: AbortSignal;
    },
  ): Promise<StartedVm>;
  /** How guests are frozen and what a frozen one needs; absent where this driver starts every guest cold. */
  readonly templates?: TemplateMaker;
  /** Resolves when the process is gone (at once where it is already). */
  waitExit(vmId: string, signal?: AbortSignal): Promise<VmExit>;
  /**
   * Graceful by the agent within `graceMs`, then by force, proven by pid + start time. Keeps record and files.
   * @param options `agent`: the channel that the caller has of it; absent: one is opened to ask the guest, and let go of
   */
  stop(vmId: string, options: { graceMs: number; agent?: AgentChannel | undefined }): Promise<VmExit>;
  /** Stops by force if need be and removes every file; the record goes last. Unknown id: nothing to do. */
  destroy(vmId: string): Promise<void>;
  /** Ids of every VM with a record, whatever its state. */
  list(): Promise<string[]>;
  /** @returns what the process of a VM uses now; undefined where there is none. */
  usage(vmId: string): Promise<VmUsage | undefined>;
  /** Ids of every VM that has a control group on this machine, with or without a record. */
  listGroups(): Promise<string[]>;
  /** @returns the owner and process of a VM, or undefined where there is no record. */
  inspect(vmId: string): Promise<VmInspection | undefined>;
}

export interface StartedVm {
  readonly vmId: string;
  readonly pid: number;
  readonly agent: AgentChannel;
}

/** A guest that is booted only to be frozen. */
export interface FreezeRequest {
  /** Where memory, state and logs are put; the disks lie there already. Nobody else uses it. */
  readonly directory: string;
  /** Names the sockets. */
  readonly name: string;
  readonly spec: Omit<VmSpec, 'vmId' | 'owner' | 'template'>;
  readonly projectId?: string;
  /** Programs that are run once in the guest before it is frozen, so that every clone has them in its memory. */
  readonly warm: readonly (readonly string[])[];
  readonly deadlineMs: number;
  readonly signal?: AbortSignal;
}

export interface TemplateMaker {
  /**
   * @returns hex hash of all that a guest must be restored with exactly as it was frozen: VMM, machine, CPU, sizes, image.
   * The VMM itself refuses only a part of what does not fit, and runs a dead guest for the rest.
   */
  fingerprint(spec: FreezeRequest['spec']): Promise<string>;
  /**
   * Boots a guest, warms it, and freezes it; its process is gone afterwards, also where this one dies in the middle.
   * Disks are written to. @throws BOOT_TIMEOUT, VMM_EXITED, AGENT_TIMEOUT, HYPERVISOR_UNAVAILABLE, CANCELLED
   */
  freeze(request: FreezeRequest): Promise<void>;
  /**
   * Removes what a freeze that died with its process has left outside of its directory; called before that is removed.
   * @throws INTERNAL where its control group cannot be removed
   */
  clearFreeze(freeze: Pick<FreezeRequest, 'directory' | 'name'>): Promise<void>;
}

/** What a VM takes of its machine: guest and VMM together. */
export interface VmUsage {
  /** Who tells: the VM's control group, or the kernel of its process alone. */
  readonly source: 'cgroup' | 'process';
  /** CPU time since its start, all cores, ms. */
  readonly cpuMs: number;
  readonly memoryBytes: number;
  readonly memoryPeakBytes?: number;
  /** Absent where nothing but the guest's own size limits it. */
  readonly memoryLimitBytes?: number;
  /** Its fair share of the machine's memory: pages shared with other VMs are divided between them. */
  readonly shareBytes?: number;
}

export interface VmInspection {
  readonly vmId: string;
  readonly owner: VmOwner;
  readonly imageDigest: string;
  readonly pid?: number;
  readonly createdAt: string;
}
