import { dirname } from 'node:path';
import type { Duplex } from 'node:stream';
import type { KeyedLock } from '../concurrency/keyed-lock.ts';
import type { InstanceRecord } from '../contracts/host/instance-record.ts';
import type { VmExit, VmSpec } from '../domain/vm.ts';
import { readTextTail } from '../linux/read-text.ts';
import type { DriverCapabilities, TemplateMaker, VmDriver } from '../ports/vm-driver.ts';
import type { InstanceStore } from './instance-record.ts';
import type { VmLimits } from './limits/vm-limits.ts';
import type { VmMark } from './vm-marks.ts';
import type { VmPaths } from './vm-paths.ts';
import type { IsOurs, ProcessEnd, WaitForEnd } from './vm-process.ts';
import type { VmLaunch } from './vm-user.ts';

/** The driver's log; a pino logger fits. */
export interface DriverLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface DriverTimings {
  /** Between two checks of a process. */
  readonly pollMs: number;
  /** How long a process may take to die of SIGKILL. */
  readonly killMs: number;
  /** How long a VMM may take to obey `quit`, and to answer a question. */
  readonly quitMs: number;
  /** How long an agent may take to answer one request. */
  readonly requestMs: number;
  /** Between two checks of the size of the VMs' log files. */
  readonly logCheckMs: number;
  /** How long a program may take to say its version. */
  readonly versionMs: number;
}

export const DEFAULT_TIMINGS: DriverTimings = {
  pollMs: 50,
  killMs: 10_000,
  quitMs: 2_000,
  requestMs: 30_000,
  logCheckMs: 5_000,
  versionMs: 10_000,
};

/** Options of all drivers that run one process per VM. */
export interface ProcessDriverOptions {
  /** State directory of the host, absolute: records, disks and logs below `vms/`. */
  readonly stateDir: string;
  /** Short absolute directory for sockets. */
  readonly runtimeDir: string;
  readonly log: DriverLog;
  /** Control groups of the VMs; absent: none. */
  readonly limits?: VmLimits;
  readonly timings?: Partial<DriverTimings>;
  /** Ports at which guests reach names besides 80 and 443: an agent listens there from its start. Default: none. */
  readonly egressPorts?: readonly number[];
  /** A log file of a VM that takes more disk than this is emptied. Default 16 MiB. */
  readonly maxLogBytes?: number;
}

/** What differs between the drivers: how the process is started, asked and understood. Everything else is shared. */
export interface VmBackend {
  readonly kind: VmDriver['kind'];
  probe(): Promise<DriverCapabilities>;
  /** @throws SPEC_INVALID, UNSUPPORTED where this driver cannot make such a VM */
  check(spec: VmSpec): void;
  /** The user that the process of such a VM runs as; undefined for the one of this worker. */
  uidOf?(spec: VmSpec): Promise<number | undefined>;
  /**
   * Sockets that its program has beside the agent's, by names of its own; recorded with the VM. When the process is
   * started, none is left from an earlier start.
   */
  sockets?(runtimeDirectory: string): Readonly<Record<string, string>>;
  /** Makes what the process needs besides. @returns its command line, by which `isProcessOf` recognizes it */
  command(
    record: InstanceRecord,
    paths: VmPaths,
    options: {
      signal: AbortSignal;
      /** `cgroup.procs` of the VM's control groups, for a command that confines itself; empty for any other. */
      groups: readonly string[];
    },
  ): Promise<VmLaunch>;
  /** Whether a command line is that of a process of the VM, even of one whose pid nobody recorded. */
  isProcessOf(vm: VmMark, argv: readonly string[]): boolean;
  /**
   * Whether the command itself becomes the VM's user and joins its control groups, as a jailer does: then it is
   * started as this worker's user and gets no files. Absent: the driver does it.
   */
  readonly confinesItself?: true;
  /**
   * Opens one connection to the agent; called again if that ends before its hello. Absent: the agent's socket is
   * used.
   */
  dialAgent?(record: InstanceRecord, signal: AbortSignal): Promise<Duplex>;
  /** Files besides console and VMM log that grow while the VM runs. */
  readonly logFiles: readonly string[];
  /** Why the process is gone. `end` is absent where this worker was not its parent. */
  explain(paths: VmPaths, end: ProcessEnd | undefined): Promise<VmExit>;
  /** Asks the process to end; may fail or be ignored. Absent where there is nothing to ask. */
  quit?(record: InstanceRecord, paths: VmPaths, deadlineMs: number): Promise<void>;
  isPaused(record: InstanceRecord, paths: VmPaths, deadlineMs: number): Promise<boolean>;
  /** Stops the guest's CPUs; does nothing if they are stopped. */
  pause(record: InstanceRecord, paths: VmPaths, deadlineMs: number): Promise<void>;
  /** Lets the guest's CPUs run; does nothing if they run. */
  resume(record: InstanceRecord, paths: VmPaths, deadlineMs: number): Promise<void>;
  /** Restores the process of a clone of `record.template` and lets it run; does nothing if it runs. */
  restore?(record: InstanceRecord, paths: VmPaths, options: { deadlineMs: number; signal: AbortSignal }): Promise<void>;
  readonly templates?: TemplateMaker;
}

/** Shared parts of one driver instance. */
export interface DriverContext {
  readonly backend: VmBackend;
  readonly options: ProcessDriverOptions;
  readonly timings: DriverTimings;
  readonly records: InstanceStore;
  readonly limits: VmLimits;
  /** One operation at a time on each VM. See docs/architecture.md, "Lock order". */
  readonly operations: KeyedLock;
  /** Starts under way, so that a stop or destroy can end them. */
  readonly starts: Map<string, AbortController>;
  /** VMs that this driver has prepared and not spawned yet: they can have no process, so none is searched for. */
  readonly unspawned: Set<string>;
  /** Ends of the processes that this worker started itself, by pid and start time. */
  readonly ends: Map<string, WaitForEnd>;
}

/** @returns paths of a VM as they were when it was made: the configured directories may have changed since */
export function recordedPaths(paths: VmPaths, record: InstanceRecord): VmPaths {
  const { agent } = record.sockets;
  return { ...paths, agentSocket: agent, runtimeDirectory: dirname(agent) };
}

/** @returns a test for the processes of a VM */
export function processesOf({ backend }: Pick<DriverContext, 'backend'>, vm: VmMark): IsOurs {
  return (argv) => backend.isProcessOf(vm, argv);
}

/**
 * Last bytes of a log, safe to show: a guest can print anything, so control characters are removed.
 * @returns '' where there is no such file
 */
export async function readTail(path: string, maxBytes: number): Promise<string> {
  return (await readTextTail(path, maxBytes)).replace(/[^\n\t\x20-\x7e\u00a0-\uffff]/g, '');
}
