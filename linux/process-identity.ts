import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { VmProcess } from '../contracts/host/instance-record.ts';
import { defined } from '../domain/defined.ts';
import { KilnError } from '../domain/failures.ts';
import { isErrno } from './errno.ts';

/** Processes known by pid, start time and boot of the host: never by the pid alone, which the kernel reuses. */

export interface ProcessStat {
  readonly pid: number;
  readonly parentPid: number;
  /** Pid of the process that began its session. */
  readonly session: number;
  /** One letter of proc(5). */
  readonly state: string;
  readonly threads: number;
  readonly startTicks: string;
}

/**
 * Reads the text of `/proc/<pid>/stat`. The process name (field 2) may hold spaces and parentheses, so fields count from
 * the last `)`.
 * @returns undefined where the text is not a stat line
 */
export function parseProcStat(text: string): ProcessStat | undefined {
  const pid = /^(\d+) \(/.exec(text)?.[1];
  const close = text.lastIndexOf(')');
  if (pid === undefined || close < 0) return undefined;
  const fields = text
    .slice(close + 1)
    .trim()
    .split(/\s+/);
  const [state, parentPid, , session] = fields;
  const threads = fields[17];
  const startTicks = fields[19];
  if (state === undefined || startTicks === undefined) return undefined;
  const counts = [parentPid, session, threads, startTicks];
  if (!counts.every((field) => field !== undefined && /^\d+$/.test(field))) return undefined;
  return {
    pid: Number(pid),
    parentPid: Number(parentPid),
    session: Number(session),
    state,
    threads: Number(threads),
    startTicks,
  };
}

/** @returns the kernel's present entry for a pid; undefined where there is no such process */
export async function readProcess(pid: number): Promise<ProcessStat | undefined> {
  try {
    // Nothing that the process does can hold this up, and it takes less time than to hand it to another thread.
    return parseProcStat(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch (error) {
    if (isGoneError(error)) return undefined;
    throw error;
  }
}

let bootId: Promise<string> | undefined;

/** @returns the id of this boot of the host */
export function hostBootId(): Promise<string> {
  bootId ??= readFile('/proc/sys/kernel/random/boot_id', 'latin1').then((text) => text.trim());
  return bootId;
}

/** @returns the identity of a living process; undefined where it is gone or a zombie */
export async function identify(pid: number): Promise<VmProcess | undefined> {
  const stat = await readProcess(pid);
  if (stat === undefined || isDead(stat)) return undefined;
  return { pid, startTicks: stat.startTicks, hostBootId: await hostBootId() };
}

/**
 * @returns start time of a living process, in clock ticks since the host's boot; '' where there is none, or where it is
 * a zombie, which may never be reaped
 */
export async function processStartTime(pid: number): Promise<string> {
  const stat = await readProcess(pid);
  return stat === undefined || isDead(stat) ? '' : stat.startTicks;
}

/** @returns whether exactly this process lives; a process of another boot of the host, or a zombie, does not */
export async function isAlive(identity: VmProcess): Promise<boolean> {
  if (identity.hostBootId !== (await hostBootId())) return false;
  const stat = await readProcess(identity.pid);
  return stat !== undefined && stat.startTicks === identity.startTicks && !isDead(stat);
}

/**
 * Waits until the process is gone.
 * @returns false where it still lives after `timeoutMs`
 * @throws the signal's reason where it is aborted first
 */
export async function waitGone(
  identity: VmProcess,
  options: { pollMs: number; timeoutMs: number; signal?: AbortSignal | undefined },
): Promise<boolean> {
  const deadline = performance.now() + options.timeoutMs;
  for (;;) {
    options.signal?.throwIfAborted();
    if (!(await isAlive(identity))) return true;
    if (performance.now() >= deadline) return false;
    await sleep(options.pollMs, undefined, defined({ signal: options.signal }));
  }
}

/**
 * SIGKILL, and proof that it worked. A process that is gone already is fine.
 * @throws INTERNAL where it still lives after `timeoutMs` (e.g. stuck in the kernel): then nothing of it may be freed
 */
export async function killProven(identity: VmProcess, options: { pollMs: number; timeoutMs: number }): Promise<void> {
  if (!(await isAlive(identity))) return;
  sendSignal(identity.pid, 'SIGKILL');
  if (await waitGone(identity, options)) return;
  throw new KilnError('INTERNAL', `process ${identity.pid} still lives ${options.timeoutMs} ms after SIGKILL`, {
    pid: identity.pid,
    fix: 'look at its state in /proc/<pid>/stat: a process in state D waits for a disk',
  });
}

/** Signals a process, or with a negative pid a group. @returns whether there was one; any other failure is thrown */
export function sendSignal(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal);
  } catch (error) {
    if (isErrno(error, 'ESRCH')) return false;
    throw error;
  }
}

/** A first thread that has ended is a zombie too: while others are left, the process holds its memory, files and sockets. */
function isDead(stat: ProcessStat): boolean {
  return (stat.state === 'Z' || stat.state === 'X') && stat.threads <= 1;
}

function isGoneError(error: unknown): boolean {
  return isErrno(error, 'ENOENT', 'ESRCH');
}
