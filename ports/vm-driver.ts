/** VM drivers start, pause, stop and remove the process of a VM. Types only; see the rules in `ports/README.md`. */
import type { DiskFormat, GuestIdentity, VmExit, VmOwner, VmSpec, VmStatus } from '../domain/vm.ts';
import type { AgentChannel } from './guest-agent.ts';

export interface WaitExitOptions {
  readonly signal?: AbortSignal;
  /** Pause between two looks at a process whose end the kernel does not tell this worker, ms. Default: the driver's. */
  readonly pollMs?: number;
}

export interface DriverCapabilities {
  readonly usable: boolean;
  /** Why it does not work, or what is missing, e.g. `kvm: pvm host`. */
  readonly reason?: string;
  readonly version: string;
  readonly accel: 'kvm' | 'tcg' | 'none';
  readonly diskFormats: readonly DiskFormat[];
}

/** Holds no channel: an agent serves one at a time, so the caller holds the channel and passes it in. */
export interface VmDriver {
  readonly kind: 'qemu' | 'firecracker' | 'fake';
  probe(): Promise<DriverCapabilities>;
  /** Makes the VM's directory and instance record, no process. @throws CONFLICT where another owner has the id. */
  prepare(spec: VmSpec): Promise<void>;
  /**
   * Starts the process, cold or from the template of its spec, and returns once the agent has said hello and answered
   * `configure`. Without an identity the agent is not configured, and no user code may run yet. Attaches to a VM that
   * runs already, or finds it by the caller's `agent`. A VM that has ended never starts again: the call fails as
   * before. Any failure, and an abort, kills the VM.
   * @throws BOOT_TIMEOUT, VMM_EXITED, GUEST_CRASHED, AGENT_TIMEOUT, AGENT_PROTOCOL, CANCELLED, NOT_FOUND,
   *   HYPERVISOR_UNAVAILABLE; from a template TEMPLATE_CORRUPT in place of the first five
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
  /**
   * After a worker restart: checks pid, start time and sockets. Never kills.
   * @throws NOT_FOUND, VMM_EXITED, GUEST_CRASHED, AGENT_TIMEOUT
   */
  attach(vmId: string, options: { deadlineMs: number; signal?: AbortSignal }): Promise<StartedVm>;
  status(vmId: string): Promise<VmStatus>;
  /** Stops the guest's CPUs; its memory stays. A paused VM stays so. @throws NOT_FOUND, VMM_EXITED, GUEST_CRASHED */
  pause(vmId: string): Promise<void>;
  /**
   * Resumes a paused guest and sets its clock. A running VM keeps running.
   * @param options `wallClockMs`: ms since 1970; `agent`: the caller's channel; absent: one is opened
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
  /** How guests are frozen and what a frozen one needs; absent where this driver always boots cold. */
  readonly templates?: TemplateMaker;
  /** Resolves when the process is gone (at once where it is already). @throws CANCELLED where the signal is aborted */
  waitExit(vmId: string, options?: WaitExitOptions): Promise<VmExit>;
  /**
   * Stops through the agent within `graceMs`, then by force, proven by pid + start time. Record and files stay.
   * @param options `agent`: the caller's channel; absent: one is opened to ask the guest, then closed
   */
  stop(vmId: string, options: { graceMs: number; agent?: AgentChannel | undefined }): Promise<VmExit>;
  /** Stops, by force if needed, and removes every file, the record last. Unknown id: does nothing. */
  destroy(vmId: string): Promise<void>;
  /** Ids of every VM with an instance record, in any state. */
  list(): Promise<string[]>;
  /** @returns what the process of a VM uses now; undefined where it has none. */
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

/** A guest that boots only to be frozen. */
export interface FreezeRequest {
  /** Folder for memory, state and logs; the disks are there already. Nothing else uses it. */
  readonly directory: string;
  /** Names the sockets. */
  readonly name: string;
  readonly spec: Omit<VmSpec, 'vmId' | 'owner' | 'template'>;
  readonly projectId?: string;
  /** Programs that run once in the guest before the freeze, so that every clone has them in memory. */
  readonly warm: readonly (readonly string[])[];
  readonly deadlineMs: number;
  readonly signal?: AbortSignal;
}

export interface TemplateMaker {
  /**
   * @returns hex hash of everything that must be the same at a restore: VMM, machine, CPU, sizes, image. The VMM itself
   *   refuses only some mismatches; for the rest it runs a dead guest.
   */
  fingerprint(spec: FreezeRequest['spec']): Promise<string>;
  /**
   * Boots a guest, warms it, and freezes it; afterwards its process is gone, even if this process dies halfway.
   * Writes to the disks. @throws BOOT_TIMEOUT, VMM_EXITED, AGENT_TIMEOUT, HYPERVISOR_UNAVAILABLE, CANCELLED
   */
  freeze(request: FreezeRequest): Promise<void>;
  /**
   * Removes what an interrupted freeze, whose process died, has left outside of its directory; call it before the
   * directory is removed.
   * @throws INTERNAL where its control group cannot be removed
   */
  clearFreeze(freeze: Pick<FreezeRequest, 'directory' | 'name'>): Promise<void>;
}

/** What a VM uses of its machine: guest and VMM together. */
export interface VmUsage {
  /** Origin of the numbers: the VM's control group, or only the kernel's data on its process. */
  readonly source: 'cgroup' | 'process';
  /** CPU time since its start, all cores, ms. */
  readonly cpuMs: number;
  readonly memoryBytes: number;
  readonly memoryPeakBytes?: number;
  /** Absent where only the guest's own size limits it. */
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
