/**
 * What activities need from the outside: the interfaces that vmm, rootfs, store and host implement. Types only.
 * Every method may be called again after a crash at any point, with the same names and the same result.
 * Every method throws `KilnError` with a code of the failure table, and nothing else on purpose.
 */
import type { Readable } from 'node:stream';
import type { HostCapacity } from '../domain/host-entry.ts';
import type { LogLevel } from '../domain/log-entry.ts';
import type { PoolStatus } from '../domain/pool-status.ts';
import type { Stage } from '../domain/stages.ts';
import type {
  BaseDisk,
  CachedImage,
  DiskFormat,
  DiskRef,
  DriveSpec,
  GuestIdentity,
  VmExit,
  VmOwner,
  VmSpec,
  VmStart,
  VmStatus,
} from '../domain/vm.ts';
import type { Resources, ServiceManifest, WorkloadRequest } from '../domain/workload.ts';
import type { AgentChannel, ExecExit, ExecOutput, ExecRequest } from './agent-ports.ts';

export type * from './agent-ports.ts';

// ---------------------------------------------------------------------------------------------- VM drivers

export interface DriverCapabilities {
  readonly usable: boolean;
  /** Why not, or what is missing, e.g. `kvm: pvm host`. */
  readonly reason?: string;
  readonly version: string;
  readonly accel: 'kvm' | 'tcg' | 'none';
  readonly diskFormats: readonly DiskFormat[];
}

export interface VmDriver {
  readonly kind: 'qemu' | 'firecracker' | 'fake';
  probe(): Promise<DriverCapabilities>;
  /** Makes the VM's directory and instance record, no process. @throws CONFLICT where another owner has the id. */
  prepare(spec: VmSpec): Promise<void>;
  /**
   * Starts the process, cold or from the template of its spec, and returns once the agent has said hello and answered
   * `configure`; without an identity the agent is not configured, and no user code may run yet. A VM that runs already
   * is attached to; one that is over is never started again and fails as it did before. Whatever fails, and an abort,
   * kills the VM. @throws BOOT_TIMEOUT, VMM_EXITED, GUEST_CRASHED, AGENT_TIMEOUT, AGENT_PROTOCOL, CANCELLED, NOT_FOUND,
   * HYPERVISOR_UNAVAILABLE; from a template TEMPLATE_CORRUPT in place of the first five
   */
  start(
    vmId: string,
    options: { identity?: GuestIdentity; deadlineMs: number; signal?: AbortSignal },
  ): Promise<StartedVm>;
  /** After a worker restart: pid, start time and sockets checked. Never kills. @throws NOT_FOUND, VMM_EXITED, GUEST_CRASHED, AGENT_TIMEOUT */
  attach(vmId: string, options: { deadlineMs: number; signal?: AbortSignal }): Promise<StartedVm>;
  status(vmId: string): Promise<VmStatus>;
  /** Stops the guest's CPUs; its memory stays. A paused VM stays so. @throws NOT_FOUND, VMM_EXITED, GUEST_CRASHED */
  pause(vmId: string): Promise<void>;
  /**
   * Lets a paused guest go on, its clock set. A VM that runs goes on running.
   * @param options `wallClockMs` tells ms since 1970 @throws NOT_FOUND, VMM_EXITED, GUEST_CRASHED, AGENT_TIMEOUT
   */
  resume(
    vmId: string,
    options: { wallClockMs: () => number; deadlineMs: number; signal?: AbortSignal },
  ): Promise<StartedVm>;
  /** How guests are frozen and what a frozen one needs; absent where this driver starts every guest cold. */
  readonly templates?: TemplateMaker;
  /** Resolves when the process is gone (at once where it is already). */
  waitExit(vmId: string, signal?: AbortSignal): Promise<VmExit>;
  /** Graceful by the agent within `graceMs`, then by force, proven by pid + start time. Keeps record and files. */
  stop(vmId: string, options: { graceMs: number }): Promise<VmExit>;
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

// ---------------------------------------------------------------------------------------------- disks and images

/** A disk that a provisioner has made for one VM. */
export interface ProvisionedDisk extends DiskRef {
  /** Where it only holds differences: to what, nearest first. */
  readonly backing?: readonly DiskRef[];
  /** The base itself, which other VMs have open too: the guest must write elsewhere. */
  readonly readOnly?: true;
  /** Where the guest of a read-only disk writes. */
  readonly scratch?: DiskRef;
}

export interface RootfsProvisioner {
  readonly kind: 'qcow2-overlay' | 'sparse-copy' | 'reflink' | 'dm-thin' | 'ro-base+scratch';
  /** Proves itself by doing it once in `directory`. */
  probe(directory: string): Promise<{ ok: boolean; reason?: string }>;
  /**
   * A fresh copy-on-write disk named by VM and base, over a base that nobody writes. Found again on a retry.
   * @param request `scratchMib`: size of the scratch disk, where there is one; other disks are as large as their base
   * @throws DISK_FULL, IMAGE_MISSING where the base is gone
   */
  provision(request: {
    base: BaseDisk;
    directory: string;
    vmId: string;
    scratchMib?: number;
  }): Promise<ProvisionedDisk>;
  /** Unknown id: nothing to do. */
  release(request: { directory: string; vmId: string }): Promise<void>;
}

export interface ImageCatalog {
  /** `name`, `name:tag` or `name@sha256:…` → the digest it stands for now. @throws IMAGE_MISSING */
  resolve(reference: string): Promise<{ name: string; digest: string }>;
}

export interface ImageCache {
  /** Brings an image to this host if it is not there, checked against its manifest. @throws IMAGE_MISSING, IMAGE_CORRUPT */
  ensure(digest: string, signal?: AbortSignal): Promise<CachedImage>;
}

// ---------------------------------------------------------------------------------------------- host

export interface CapacityLedger {
  /**
   * Find-or-create by id; a known id is renewed.
   * @returns false where it does not fit now. @throws NO_CAPACITY where it never could
   */
  reserve(request: {
    id: string;
    ownerWorkflowId: string;
    resources: Resources;
    ttlMs: number;
    /** Id of a reservation that is held all the while. */
    beside?: string;
  }): Promise<boolean>;
  /** Unknown id: nothing to do. */
  release(id: string): Promise<void>;
  totals(): Promise<{ capacity: HostCapacity; free: HostCapacity }>;
}

/** The VMs of one host with their disks, channels, ports and logs. */
export interface VmHost {
  readonly hostId: string;
  /** Disks for the VM and its record. @throws DISK_FULL, IMAGE_MISSING, CONFLICT */
  provision(request: {
    vmId: string;
    owner: VmOwner;
    imageDigest: string;
    resources: Resources;
    /** Boots cold even where there is a template to go on from. */
    cold?: boolean;
    signal?: AbortSignal;
  }): Promise<{ provisioner: string; provisionMs: number; start: VmStart }>;
  /**
   * To a configured agent, by booting or from a template, as was decided when it was provisioned; a VM that runs already
   * is found. `bootMs` counts from the call. @throws TEMPLATE_CORRUPT where the next try should be a cold one
   */
  boot(request: { vmId: string; hostname: string; deadlineMs: number; signal?: AbortSignal }): Promise<{
    pid: number;
    bootMs: number;
    start: VmStart;
  }>;
  /** The VM's channel, attached anew where it was lost. @throws NOT_FOUND, VMM_EXITED, AGENT_TIMEOUT */
  agent(vmId: string): Promise<AgentChannel>;
  /** Names and ports that the guest may reach from now on; default nothing. */
  setEgress(vmId: string, policy: EgressPolicy): Promise<void>;
  /** Opens (or finds) the host listener of a guest port. @throws PORT_IN_USE */
  openIngress(request: { vmId: string; guestPort: number; hostPort?: number }): Promise<{ port: number; url: string }>;
  status(vmId: string): Promise<VmStatus>;
  waitExit(vmId: string, signal?: AbortSignal): Promise<VmExit>;
  /** Port, channel, process, disks, files, record: in that order, each proven gone. Unknown id: nothing to do. */
  release(vmId: string, options: { graceMs: number }): Promise<void>;
}

/** The ready VMs of this host, as far as a workflow keeps them in order. */
export interface PoolMaintenance {
  /** One round; what fails is told in a log and made up for by the next. */
  maintain(signal: AbortSignal): Promise<PoolStatus>;
}

export interface EgressPolicy {
  /** `host:port` or `*.domain:port`. Empty = nothing. */
  readonly allow: readonly string[];
  /** `host:port` of `allow` for which private addresses are accepted (the configured package registries). */
  readonly privateAllowed: readonly string[];
}

/** Log of one workload on this host and epoch. Lines are safe on disk when `flush` resolves. */
export interface WorkloadLogWriter {
  write(stage: Stage, level: LogLevel, message: string): void;
  /** Writes the lines of a process's output until it ends. @returns the last `tailLines` of them */
  writeOutput(stage: Stage, output: AsyncIterable<ExecOutput>, tailLines: number): Promise<readonly string[]>;
  flush(): Promise<void>;
}

export interface WorkloadLogs {
  /** Finds or makes the spool; numbering goes on where it stopped. */
  open(workloadId: string, epoch: number): Promise<WorkloadLogWriter>;
  /** Output offset of the service up to which lines are on disk; 0 where unknown. */
  serviceOffset(workloadId: string, epoch: number): Promise<number>;
  /** Records that offset, after the lines up to it are on disk. */
  saveServiceOffset(workloadId: string, epoch: number, offset: number): Promise<void>;
  /** Ships what is not in the store yet. @throws STORE_UNAVAILABLE (the spool keeps the lines) */
  ship(workloadId: string, epoch: number): Promise<void>;
}

/** The service processes in this host's VMs: started, their output pumped to the log, their end awaited. */
export interface GuestServices {
  /** Starts the service, or finds it; its output goes to the log from now on, also after a restart of the host worker. */
  start(request: { vmId: string; workloadId: string; epoch: number; exec: ExecRequest }): Promise<{ pid: number }>;
  /** Stage that the log lines of the service carry from now on. */
  setStage(vmId: string, stage: Stage): Promise<void>;
  /** @returns how the service ended, with the last lines it printed. @throws AGENT_LOST, VMM_EXITED, NOT_FOUND */
  waitExit(vmId: string, signal?: AbortSignal): Promise<{ exit: ExecExit; tail: string }>;
  /** SIGTERM to its group, after `graceMs` SIGKILL. One that has ended is told as it ended. */
  stop(vmId: string, options: { graceMs: number }): Promise<ExecExit>;
}

/** Where the code of a service lies. */
export type ServiceCode = Pick<WorkloadRequest, 'servicePath' | 'source'>;

/** Service folders: below the project root of this host, or in uploaded sources. */
export interface ServiceSources {
  /**
   * Reads and checks a service folder.
   * @throws SERVICE_NOT_FOUND, MANIFEST_MISSING, CONFIG_INVALID, DEPENDENCY_UNDECLARED
   */
  inspect(code: ServiceCode): Promise<ServiceManifest>;
  /** Packs the folder (no node_modules, no .git) in stable order. @returns path of a temporary tar and its digest */
  pack(code: ServiceCode): Promise<{ tarPath: string; sha256: string; bytes: number; lockSha256?: string }>;
}

/** Package registries of this machine's client configuration, as a builder VM needs them. Never holds a token. */
export interface RegistrySettings {
  /** `host:port` entries that builds may reach. */
  readonly endpoints: readonly string[];
  /** Text of an .npmrc without credentials. */
  readonly npmrc: string;
  /** PEM bundle of extra CAs that the registries need; absent where the system's own are enough. */
  readonly caBundlePem?: string;
}

/** Package indexes of this machine's pip, as a builder VM of a Python service needs them. Never holds a password. */
export interface PipSettings {
  /** `host:port` entries that builds may reach. */
  readonly endpoints: readonly string[];
  /** Text of a pip.conf without credentials. */
  readonly pipConf: string;
  /** Whether packages come from the index that pip knows by itself, since no other is configured. */
  readonly ownIndex: boolean;
  /** PEM bundle of extra CAs that pip is told to trust. */
  readonly caBundlePem?: string;
}

export interface BuildOutput {
  readonly sha256: string;
  readonly bytes: number;
}

export interface BuildStore {
  find(cacheKey: string): Promise<BuildOutput | undefined>;
  /** Stores a tar by its digest, and under the key where there is one. */
  save(tarPath: string, cacheKey: string | undefined): Promise<BuildOutput>;
  /** The tar, from this host's cache or the store, checked while it is read. @throws IMAGE_CORRUPT, STORE_UNAVAILABLE */
  open(output: BuildOutput): Promise<Readable>;
}

export type { ControlLog, HostDirectory, WaitingLine, WorkloadDocuments } from './control-ports.ts';
export type { BaseDisk, CachedImage, DiskRef, DriveSpec, GuestIdentity, VmExit, VmOwner, VmSpec, VmStatus };
