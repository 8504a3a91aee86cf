/**
 * What activities need from the outside: the interfaces that vmm, rootfs, store and host implement. Types only.
 * Every method may be called again after a crash at any point, with the same names and the same result.
 * Every method throws `KilnError` with a code of the failure table, and nothing else on purpose.
 */
import type { Duplex, Readable } from 'node:stream';
import type { HostCapacity, HostEntry } from '../domain/host-entry.ts';
import type { LogLevel } from '../domain/log-entry.ts';
import type { PoolStatus } from '../domain/pool-status.ts';
import type { Stage } from '../domain/stages.ts';
import type {
  CachedImage,
  DiskFormat,
  DriveSpec,
  GuestIdentity,
  VmExit,
  VmOwner,
  VmSpec,
  VmStatus,
} from '../domain/vm.ts';
import type { Resources, ServiceManifest, WorkloadRequest, WorkloadState } from '../domain/workload.ts';

// ---------------------------------------------------------------------------------------------- guest agent

export interface AgentHello {
  readonly agentVersion: string;
  readonly protocol: number;
  /** Random, made when the agent process started: differs after a reboot, not after a reattach. */
  readonly bootId: string;
  readonly features: readonly string[];
}

export type OutputStream = 'stdout' | 'stderr';

export interface ExecRequest {
  /** Chosen by the host; a second start with the same id attaches to the first instead of running twice. */
  readonly execId: string;
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Absolute in the guest; default `/workspace`. */
  readonly cwd?: string;
  readonly uid?: number;
  readonly gid?: number;
  /** Bytes written to stdin, which is closed afterwards; default: empty. */
  readonly stdin?: Buffer;
  /** The group is killed after this; absent = never. */
  readonly timeoutMs?: number;
  /**
   * `ring`: the process is never blocked, old unacknowledged output is dropped and its place marked with a gap.
   * `wait`: nothing is dropped, the process blocks while its output is not acknowledged.
   */
  readonly output: 'ring' | 'wait';
  /** Bytes of unacknowledged output kept in the guest, both streams together. Default 1 MiB. */
  readonly bufferBytes?: number;
}

/** A piece of output. Offsets count the bytes of both streams together, in the order the agent read them. */
export type ExecOutput =
  | { readonly kind: 'data'; readonly stream: OutputStream; readonly offset: number; readonly data: Buffer }
  /** Bytes `offset` … `offset + bytes` were dropped in the guest. */
  | { readonly kind: 'gap'; readonly offset: number; readonly bytes: number };

export interface ExecExit {
  readonly code: number | null;
  readonly signal: string | null;
  readonly timedOut: boolean;
}

export interface ExecHandle {
  readonly execId: string;
  /** Pid in the guest. */
  readonly pid: number;
  /** Ends when the process has exited and all output was handed out; throws AGENT_LOST when the channel is lost. */
  readonly output: AsyncIterable<ExecOutput>;
  /** Resolves only on the agent's explicit exit message; rejects with AGENT_LOST when the channel is lost. */
  readonly exit: Promise<ExecExit>;
  /** Everything below `offset` may be forgotten by the guest. `output` acknowledges by itself unless `manualAck`. */
  acknowledge(offset: number): void;
  /** To the whole process group. */
  signal(name: 'SIGTERM' | 'SIGKILL' | 'SIGINT' | 'SIGHUP'): Promise<void>;
}

export interface AttachOptions {
  /** First byte of output wanted; default 0. Older bytes that are gone come as a gap. */
  readonly fromOffset?: number;
  /** The reader acknowledges by itself once the output is safe (e.g. after fsync). */
  readonly manualAck?: boolean;
}

export interface ExecSummary {
  readonly execId: string;
  readonly pid: number;
  readonly exit?: ExecExit;
}

/** Handles a connection that a guest program opened to `name:port`. */
export type EgressHandler = (request: { name: string; port: number }) => Promise<EgressVerdict>;
export type EgressVerdict =
  | { readonly allow: true; readonly socket: Duplex }
  | { readonly allow: false; readonly reason: string };

/** The one multiplexed connection between a host and a guest's agent. One owner at a time. */
export interface AgentChannel {
  readonly hello: AgentHello;
  /** Resolves (never rejects) once the connection is gone, with the reason. */
  readonly closed: Promise<Error>;
  ping(): Promise<void>;
  configure(identity: GuestIdentity): Promise<void>;
  /** Starts a process, or attaches to the one that has this id. */
  exec(request: ExecRequest, options?: AttachOptions): Promise<ExecHandle>;
  /** @throws NOT_FOUND where the agent knows no such exec. */
  attachExec(execId: string, options?: AttachOptions): Promise<ExecHandle>;
  /** Every exec this agent knows, running or ended. */
  listExecs(): Promise<readonly ExecSummary[]>;
  /** Unpacks a tar below `path` (made if absent). Refuses entries that would leave it. */
  putTar(path: string, tar: Readable): Promise<{ bytes: number }>;
  /** Packs `paths` (relative to `root`; empty = all) as a tar with stable order and zeroed owners. */
  getTar(root: string, paths: readonly string[], exclude?: readonly string[]): Readable;
  /** Opens a stream to a port of the guest's loopback. @throws NOT_FOUND where nobody listens. */
  connectTcp(port: number): Promise<Duplex>;
  /** Names for which the guest opens connections go to this handler; without one every connection is refused. */
  serveEgress(handler: EgressHandler): void;
  /** Memory and CPU of the guest, as the agent reads them from /proc. */
  usage(): Promise<GuestUsage>;
  /** Syncs disks and powers the guest off. Resolves when the agent has confirmed. */
  shutdown(): Promise<void>;
  /** Lets go of the guest without disturbing it. */
  detach(): Promise<void>;
}

export interface GuestUsage {
  readonly memUsedBytes: number;
  readonly memTotalBytes: number;
  /** Busy CPU time since boot, all cores, ms. */
  readonly cpuMs: number;
}

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
   * Starts the process and returns once the agent has said hello and answered `configure`. A VM that runs already is
   * attached to; one that is over is never started again and fails as it did before. Whatever fails, and an abort,
   * kills the VM. @throws BOOT_TIMEOUT, VMM_EXITED, GUEST_CRASHED, AGENT_TIMEOUT, AGENT_PROTOCOL, CANCELLED, NOT_FOUND,
   * HYPERVISOR_UNAVAILABLE
   */
  start(
    vmId: string,
    options: { identity: GuestIdentity; deadlineMs: number; signal?: AbortSignal },
  ): Promise<StartedVm>;
  /** After a worker restart: pid, start time and sockets checked. Never kills. @throws NOT_FOUND, VMM_EXITED, GUEST_CRASHED, AGENT_TIMEOUT */
  attach(vmId: string, options: { deadlineMs: number; signal?: AbortSignal }): Promise<StartedVm>;
  status(vmId: string): Promise<VmStatus>;
  /** Resolves when the process is gone (at once where it is already). */
  waitExit(vmId: string, signal?: AbortSignal): Promise<VmExit>;
  /** Graceful by the agent within `graceMs`, then by force, proven by pid + start time. Keeps record and files. */
  stop(vmId: string, options: { graceMs: number }): Promise<VmExit>;
  /** Stops by force if need be and removes every file; the record goes last. Unknown id: nothing to do. */
  destroy(vmId: string): Promise<void>;
  /** Ids of every VM with a record, whatever its state. */
  list(): Promise<string[]>;
  /** @returns the owner and process of a VM, or undefined where there is no record. */
  inspect(vmId: string): Promise<VmInspection | undefined>;
}

export interface StartedVm {
  readonly vmId: string;
  readonly pid: number;
  readonly agent: AgentChannel;
}

export interface VmInspection {
  readonly vmId: string;
  readonly owner: VmOwner;
  readonly imageDigest: string;
  readonly pid?: number;
  readonly createdAt: string;
}

// ---------------------------------------------------------------------------------------------- disks and images

export interface DiskRef {
  readonly path: string;
  readonly format: DiskFormat;
}

export interface RootfsProvisioner {
  readonly kind: 'qcow2-overlay' | 'sparse-copy' | 'reflink' | 'dm-thin' | 'ro-base+scratch';
  /** Proves itself by doing it once in `directory`. */
  probe(directory: string): Promise<{ ok: boolean; reason?: string }>;
  /** A fresh copy-on-write disk named by the VM, over a raw base that nobody writes. Found again on a retry. */
  provision(request: { basePath: string; directory: string; vmId: string }): Promise<DiskRef>;
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
  /** Find-or-create by id; a known id is renewed. @returns false where it does not fit now. */
  reserve(request: { id: string; ownerWorkflowId: string; resources: Resources; ttlMs: number }): Promise<boolean>;
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
    signal?: AbortSignal;
  }): Promise<{ provisioner: string; provisionMs: number }>;
  /** Cold boot to a configured agent; a VM that runs already is found. `bootMs` counts from the call. */
  boot(request: { vmId: string; hostname: string; deadlineMs: number; signal?: AbortSignal }): Promise<{
    pid: number;
    bootMs: number;
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

// ---------------------------------------------------------------------------------------------- control side

export interface WorkloadDocuments {
  /** @throws SPEC_INVALID where the document is missing or its hash differs. */
  readSpec(workloadId: string, specHash: string): Promise<WorkloadRequest>;
  /** Writes the result once; a second write of the same workload is the same fact. */
  writeResult(state: WorkloadState): Promise<void>;
}

export interface HostDirectory {
  list(): Promise<HostEntry[]>;
  /** @returns undefined where the host never wrote an entry. */
  read(hostId: string): Promise<HostEntry | undefined>;
}

/** Entries of the control writer: numbered by the workflow, each one object of its own, written at most once. */
export interface ControlLog {
  append(request: {
    workloadId: string;
    epoch: number;
    n: number;
    stage: Stage;
    level: LogLevel;
    message: string;
    /** ISO 8601, when the line was made; absent: now. */
    timestamp?: string;
  }): Promise<void>;
}

export type { CachedImage, DriveSpec, GuestIdentity, VmExit, VmOwner, VmSpec, VmStatus };
