import type { VmProcess } from '../../contracts/host/instance-record.ts';
import { defined } from '../../domain/defined.ts';
import { isErrno } from '../../linux/errno.ts';
import { readProcFile } from '../../linux/proc-file.ts';
import { isAlive } from '../../linux/process-identity.ts';

/** What the kernel says of one process, all its threads together. */
export interface ProcessUsage {
  readonly cpuMs: number;
  /** Resident, shared pages counted in full. */
  readonly rssBytes: number;
  readonly peakRssBytes?: number;
  /** Resident, each shared page divided by the number of its users; absent where the kernel does not show it. */
  readonly pssBytes?: number;
}

/** Unit of the times in `/proc/<pid>/stat`: USER_HZ, which is 100 on every architecture that Kiln runs on. */
const TICK_MS = 10;
const KIB = 1024;

/** @returns the usage of exactly this process; undefined where it is gone */
export async function processUsage(identity: VmProcess): Promise<ProcessUsage | undefined> {
  const [stat, status, rollup] = await Promise.all([
    readIfThere(`/proc/${identity.pid}/stat`),
    readIfThere(`/proc/${identity.pid}/status`),
    readIfThere(`/proc/${identity.pid}/smaps_rollup`),
  ]);
  // Checked last: the figures are this process's only if it still has its pid now.
  if (!(await isAlive(identity))) return undefined;
  const cpuMs = parseCpuMs(stat ?? '');
  const rssBytes = parseKib(status ?? '', 'VmRSS');
  if (cpuMs === undefined || rssBytes === undefined) return undefined;
  const peak = parseKib(status ?? '', 'VmHWM');
  const pss = parseKib(rollup ?? '', 'Pss');
  return {
    cpuMs,
    rssBytes,
    ...defined({ peakRssBytes: peak, pssBytes: pss }),
  };
}

/** @returns user and system time of a stat line, ms; undefined where it is not one */
export function parseCpuMs(stat: string): number | undefined {
  const close = stat.lastIndexOf(')');
  if (close < 0) return undefined;
  const fields = stat
    .slice(close + 1)
    .trim()
    .split(/\s+/);
  const user = Number(fields[11] ?? Number.NaN);
  const system = Number(fields[12] ?? Number.NaN);
  return Number.isFinite(user + system) ? (user + system) * TICK_MS : undefined;
}

/** @returns the bytes behind `name:` in lines of `name: number kB` */
export function parseKib(text: string, name: string): number | undefined {
  const value = text
    .split('\n')
    .find((line) => line.startsWith(`${name}:`))
    ?.slice(name.length + 1);
  const found = value === undefined ? undefined : /^\s+(\d+) kB$/.exec(value)?.[1];
  return found === undefined ? undefined : Number(found) * KIB;
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readProcFile(path);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ESRCH', 'EACCES', 'EPERM')) return undefined;
    throw error;
  }
}
