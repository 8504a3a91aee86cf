import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants, readFileSync } from 'node:fs';
import { access, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { VmProcess } from '../contracts/host/instance-record.ts';
import { defined } from '../domain/defined.ts';
import { KilnError } from '../domain/failures.ts';
import { isErrno } from '../linux/errno.ts';
import {
  hostBootId,
  identify,
  isAlive,
  killProven,
  parseProcStat,
  readProcess,
  waitGone,
} from '../linux/process-identity.ts';

/** How a process ended, where this worker is its parent; both null where nobody could see it. */
export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: string | null;
}

export type WaitForEnd = (signal?: AbortSignal) => Promise<ProcessEnd>;

/** How the process of a VM is started. */
export interface VmCommand {
  readonly argv: readonly string[];
  /** User and group to be from the start, with no other groups; absent: those of this worker. */
  readonly user?: { readonly uid: number; readonly gid: number };
}

export interface SpawnedVm {
  readonly process: VmProcess;
  /**
   * Waits for the end as the kernel reports it. Without a waiter the child does not keep us alive.
   * @throws the signal's reason where it is aborted first; nothing without a signal
   */
  readonly end: WaitForEnd;
}

const VMM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** All of a VMM's environment, to find programs: the environment of the worker may hold secrets. */
const VMM_ENV = { PATH: VMM_PATH };

/**
 * Starts a process that outlives this one: a session and process group of its own, no inherited descriptors but those
 * given, from 3 on, and stdout and stderr, which are appended to `logPath`.
 * @throws HYPERVISOR_UNAVAILABLE where the program cannot be run
 */
export async function spawnDetached(
  command: VmCommand,
  logPath: string,
  descriptors: readonly number[] = [],
): Promise<SpawnedVm> {
  const [file, ...args] = command.argv;
  if (file === undefined) throw new KilnError('INTERNAL', 'An empty command line cannot be started');
  const log = await open(logPath, 'a', 0o600);
  try {
    const stdio = ['ignore' as const, log.fd, log.fd, ...descriptors];
    const child = spawn(file, args, { cwd: '/', env: VMM_ENV, detached: true, stdio, ...command.user });
    if (child.pid === undefined) throw await cannotRun(child, file);
    // At once, before the event loop turns: until then even a process that has ended can still be identified.
    const stat = parseProcStat(readFileSync(`/proc/${child.pid}/stat`, 'latin1'));
    if (stat === undefined) throw new KilnError('INTERNAL', `/proc/${child.pid}/stat is no stat line`);
    child.unref();
    const identity = { pid: stat.pid, startTicks: stat.startTicks, hostBootId: await hostBootId() };
    return { process: identity, end: endOf(child) };
  } finally {
    await log.close();
  }
}

/** @throws HYPERVISOR_UNAVAILABLE where a program cannot be run: a start through a shell would not report that */
export async function assertRunnable(file: string): Promise<void> {
  const places = file.includes('/') ? [file] : VMM_PATH.split(':').map((directory) => join(directory, file));
  const found = await Promise.all(
    places.map((path) =>
      access(path, constants.X_OK).then(
        () => true,
        () => false,
      ),
    ),
  );
  if (found.includes(true)) return;
  throw new KilnError('HYPERVISOR_UNAVAILABLE', `${file} cannot be started: there is no such program`, {
    fix: `install ${file} or set its path in the configuration`,
  });
}

/** Keeps the event loop alive while somebody waits for the child's end: a detached child alone does not. */
function endOf(child: ChildProcess): WaitForEnd {
  let waiting = 0;
  return async (signal) => {
    signal?.throwIfAborted();
    if (waiting++ === 0) child.ref();
    try {
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit', defined({ signal }));
    } catch (error) {
      throw signal?.aborted ? signal.reason : error;
    } finally {
      if (--waiting === 0) child.unref();
    }
    return { code: child.exitCode, signal: child.signalCode };
  };
}

async function cannotRun(child: ChildProcess, file: string): Promise<KilnError> {
  const error = await new Promise<Error>((resolve) => child.once('error', resolve));
  return new KilnError('HYPERVISOR_UNAVAILABLE', `${file} cannot be started: ${error.message}`, {
    fix: `install ${file} or set its path in the configuration`,
  });
}

/** Whether a command line belongs to a certain VM. */
export type IsOurs = (argv: readonly string[]) => boolean;

/**
 * Every living process of a VM, recorded or not, by its command line. This finds what was started by a worker that died
 * before it could write the pid down.
 */
export async function findVmProcesses(isOurs: IsOurs): Promise<VmProcess[]> {
  return identified(await processesWithArguments(), isOurs);
}

async function identified(all: readonly ProcessArguments[], isOurs: IsOurs): Promise<VmProcess[]> {
  const found: VmProcess[] = [];
  for (const { pid, argv } of all) {
    if (argv.length === 0 || !isOurs(argv)) continue;
    const identity = await identify(pid);
    if (identity !== undefined) found.push(identity);
  }
  return found;
}

/** @returns the one process that is not a child of another of these; undefined where there is not exactly one */
export async function leaderOf(processes: readonly VmProcess[]): Promise<VmProcess | undefined> {
  const pids = new Set(processes.map(({ pid }) => pid));
  const parents = await Promise.all(processes.map(({ pid }) => readProcess(pid)));
  const leaders = processes.filter((_, index) => !pids.has(parents[index]?.parentPid ?? 0));
  return leaders.length === 1 ? leaders[0] : undefined;
}

/**
 * Kills every process of a VM and returns once none is left.
 * @throws INTERNAL where one survives `timeoutMs`
 */
export async function killVmProcesses(
  isOurs: IsOurs,
  recorded: VmProcess | undefined,
  options: { pollMs: number; timeoutMs: number },
): Promise<void> {
  // Listed before anything is killed: a process that is ending has lost its command line, but not yet its sockets.
  let all = await processesWithArguments();
  let left = await identified(all, isOurs);
  let mayHaveChanged = left.length > 0 || (recorded !== undefined && (await isAlive(recorded)));
  if (recorded !== undefined) await killProven(recorded, options);
  const deadline = performance.now() + options.timeoutMs;
  while (mayHaveChanged) {
    for (const one of left) await killProven(one, options);
    all = await processesWithArguments();
    left = await identified(all, isOurs);
    mayHaveChanged = left.length > 0;
    if (mayHaveChanged && performance.now() >= deadline) {
      throw new KilnError('INTERNAL', 'processes of a VM keep coming back', {
        pids: left.map(({ pid }) => pid),
      });
    }
  }
  for (const { pid, ...ending } of recorded === undefined ? [] : await endingInSession(all, recorded)) {
    if (await waitGone({ pid, ...ending }, options)) continue;
    throw new KilnError('INTERNAL', 'a process of a VM does not come to its end', { pids: [pid] });
  }
}

/**
 * @returns the processes of a VM's session that had begun to end before anybody could list them: they have lost their
 * command lines, but not yet their sockets. They are only waited for, since the number of a session can be used again.
 */
async function endingInSession(
  all: readonly ProcessArguments[],
  { pid: session, startTicks, hostBootId }: VmProcess,
): Promise<VmProcess[]> {
  const ending: VmProcess[] = [];
  for (const { pid, argv } of all) {
    const stat = argv.length === 0 ? await readProcess(pid) : undefined;
    if (stat?.session !== session || BigInt(stat.startTicks) < BigInt(startTicks)) continue;
    ending.push({ pid, startTicks: stat.startTicks, hostBootId });
  }
  return ending;
}

interface ProcessArguments {
  readonly pid: number;
  readonly argv: readonly string[];
}

/** @returns every process of the machine with its argument list; those that end meanwhile are left out */
export async function commandLines(): Promise<ProcessArguments[]> {
  return (await processesWithArguments()).filter(({ argv }) => argv.length > 0);
}

/** Command lines that are read in one turn of the event loop, which takes about a millisecond. */
const AT_ONCE = 100;

/** Each is read here and now: handing it to another thread takes several times as long. */
async function processesWithArguments(): Promise<ProcessArguments[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found: ProcessArguments[] = [];
  for (const pid of pids) {
    found.push({ pid, argv: argvOf(pid) });
    if (found.length % AT_ONCE === 0) await setImmediate();
  }
  return found;
}

function argvOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      .split('\0')
      .filter((word) => word !== '');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH', 'EACCES')) return [];
    throw error;
  }
}
