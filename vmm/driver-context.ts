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
import type { IsOurs, ProcessEnd } from './vm-process.ts';
import type { VmLaunch } from './vm-user.ts';

/** What the driver says; a pino logger fits. */
export interface DriverLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface DriverTimings {
  /** Between two looks at a process. */
  readonly pollMs: number;
  /** How long a process may take to die of SIGKILL. */
  readonly killMs: number;
  /** How long a VMM may take to obey `quit`, and to answer a question. */
  readonly quitMs: number;
  /** How long an agent may take to answer one request. */
  readonly requestMs: number;
  /** Between two looks at the size of the VMs' log files. */
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

/** What all drivers that run one process a VM are made with. */
export interface ProcessDriverOptions {
  /** State directory of the host, absolute: records, disks and logs below `vms/`. */
  readonly stateDir: string;
  /** Short absolute directory for sockets. */
  readonly runtimeDir: string;
  readonly log: DriverLog;
  /** Control groups of the VMs; absent: none. */
  readonly limits?: VmLimits;
  readonly timings?: Partial<DriverTimings>;
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
   * Sockets that its program has beside the agent's, by names of its own; recorded with the VM. Nothing of an earlier
   * start lies there when the process is started.
   */
  sockets?(runtimeDirectory: string): Readonly<Record<string, string>>;
  /** Makes what the process needs beside it. @returns its command line, by which `isProcessOf` knows it */
  command(
    record: InstanceRecord,
    paths: VmPaths,
    options: {
      signal: AbortSignal;
      /** `cgroup.procs` of the VM's control groups, for a command that confines itself; of any other it is none. */
      groups: readonly string[];
    },
  ): Promise<VmLaunch>;
  /** Whether a command line is that of a process of the VM: also of one whose pid nobody wrote down. */
  isProcessOf(vm: VmMark, argv: readonly string[]): boolean;
  /**
   * Whether the command itself becomes the VM's user and joins its control groups, as a jailer does: it is started as
   * this worker then, and given no files. Absent: the driver does it.
   */
  readonly confinesItself?: true;
  /**
   * Opens one connection on which the agent can be spoken to; called again where that ends before its hello. Absent: the
   * agent's socket is that.
   */
  dialAgent?(record: InstanceRecord, signal: AbortSignal): Promise<Duplex>;
  /** Files besides console and VMM log that grow while the VM runs. */
  readonly logFiles: readonly string[];
  /** Why the process is gone. `end` is absent where this worker was not its parent. */
  explain(paths: VmPaths, end: ProcessEnd | undefined): Promise<VmExit>;
  /** Asks the process to end; may fail or be ignored. Absent where there is nothing to ask. */
  quit?(record: InstanceRecord, paths: VmPaths, deadlineMs: number): Promise<void>;
  isPaused(record: InstanceRecord, paths: VmPaths, deadlineMs: number): Promise<boolean>;
  /** Stops the guest's CPUs; nothing to do where they stand. */
  pause(record: InstanceRecord, paths: VmPaths, deadlineMs: number): Promise<void>;
  /** Lets the guest's CPUs go on; nothing to do where they run. */
  resume(record: InstanceRecord, paths: VmPaths, deadlineMs: number): Promise<void>;
  /** Brings a process that was started for a clone of `record.template` to run; nothing to do where it runs. */
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
  /** VMs that this driver has prepared and not spawned yet: no process of theirs can run, so none is looked for. */
  readonly unspawned: Set<string>;
  /** Ends of the processes that this worker started itself, by pid and start time. */
  readonly ends: Map<string, () => Promise<ProcessEnd>>;
}

/** @returns paths of a VM as they were when it was made: the configured directories may have changed since */
export function recordedPaths(paths: VmPaths, record: InstanceRecord): VmPaths {
  const { agent } = record.sockets;
  return { ...paths, agentSocket: agent, runtimeDirectory: dirname(agent) };
}

/** @returns what tells the processes of a VM from all others */
export function processesOf({ backend }: Pick<DriverContext, 'backend'>, vm: VmMark): IsOurs {
  return (argv) => backend.isProcessOf(vm, argv);
}

/**
 * Last bytes of a log, fit to be shown: what a guest prints may hold anything, so control characters go.
 * @returns '' where there is no such file
 */
export async function readTail(path: string, maxBytes: number): Promise<string> {
  return (await readTextTail(path, maxBytes)).replace(/[^\n\t\x20-\x7e\u00a0-\uffff]/g, '');
}
