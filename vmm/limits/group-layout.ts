import type { GroupCaps } from './group-caps.ts';

/** One setting of a control group. */
export interface Knob {
  readonly controller: Controller;
  readonly file: string;
  readonly value: string;
  /** Whether the kernel may lack this file, or refuse the value: the limit then holds, but less strictly. */
  readonly optional?: boolean;
}

export type Controller = 'cpu' | 'cpuacct' | 'memory' | 'pids' | 'io';

/** Figures of a group; absent where the kernel does not give them. */
export interface GroupReading {
  readonly cpuMs?: number;
  readonly memoryBytes?: number;
  readonly memoryPeakBytes?: number;
  readonly memoryLimitBytes?: number;
  /** Processes of the group that the kernel killed for lack of memory. */
  readonly oomKills?: number;
  /** How often the group itself, not the machine, ran out of memory. */
  readonly limitHits?: number;
}

/** Reads a file of a controller's group; undefined where there is none. */
export type ReadKnob = (controller: Controller, file: string) => Promise<string | undefined>;

/** The files of one generation of control groups. */
export interface GroupLayout {
  readonly kind: 'cgroup2' | 'cgroup1';
  /** Without these there is no useful limit. */
  readonly needed: readonly Controller[];
  readonly wanted: readonly Controller[];
  /** How the cores are shared when they are scarce. */
  readonly weight: { readonly file: string; readonly max: number };
  knobs(caps: GroupCaps): Knob[];
  read(read: ReadKnob): Promise<GroupReading>;
}

const PERIOD_US = 100_000;
const MAX_WEIGHT = 10_000;
const MAX_SHARES = 262_144;
/** Memory is charged to processors in batches, so that a peak may end a little below the limit. */
const MARGIN_BYTES = 1024 * 1024;

export const CGROUP2: GroupLayout = {
  kind: 'cgroup2',
  needed: ['cpu', 'memory', 'pids'],
  wanted: ['io'],
  weight: { file: 'cpu.weight', max: MAX_WEIGHT },
  knobs: ({ cores, claim, memoryBytes, pids, io }) => [
    { controller: 'cpu', file: 'cpu.max', value: `${Math.round(cores * PERIOD_US)} ${PERIOD_US}` },
    { controller: 'cpu', file: 'cpu.weight', value: String(Math.min(MAX_WEIGHT, claim * 100)) },
    { controller: 'memory', file: 'memory.max', value: String(memoryBytes) },
    // Absent where the kernel has no swap.
    { controller: 'memory', file: 'memory.swap.max', value: '0', optional: true },
    { controller: 'memory', file: 'memory.oom.group', value: '1', optional: true },
    { controller: 'pids', file: 'pids.max', value: String(pids) },
    ...ioKnob(io && `${io.device} rbps=${io.bytesPerSecond} wbps=${io.bytesPerSecond}`, 'io.max'),
  ],
  async read(read) {
    const events = await read('memory', 'memory.events');
    return defined({
      cpuMs: scaled(field(await read('cpu', 'cpu.stat'), 'usage_usec'), 1 / 1000),
      memoryBytes: number(await read('memory', 'memory.current')),
      memoryPeakBytes: number(await read('memory', 'memory.peak')),
      memoryLimitBytes: number(await read('memory', 'memory.max')),
      oomKills: field(events, 'oom_kill'),
      limitHits: field(events, 'oom'),
    });
  },
};

export const CGROUP1: GroupLayout = {
  kind: 'cgroup1',
  needed: ['cpu', 'memory', 'pids'],
  wanted: ['cpuacct', 'io'],
  weight: { file: 'cpu.shares', max: MAX_SHARES },
  knobs: ({ cores, claim, memoryBytes, pids, io }) => [
    { controller: 'cpu', file: 'cpu.cfs_period_us', value: String(PERIOD_US) },
    { controller: 'cpu', file: 'cpu.cfs_quota_us', value: String(Math.round(cores * PERIOD_US)) },
    { controller: 'cpu', file: 'cpu.shares', value: String(Math.min(MAX_SHARES, claim * 1024)) },
    { controller: 'memory', file: 'memory.limit_in_bytes', value: String(memoryBytes) },
    // Memory and swap together: the same as memory alone, so nothing is swapped. Absent without swap accounting.
    { controller: 'memory', file: 'memory.memsw.limit_in_bytes', value: String(memoryBytes), optional: true },
    { controller: 'pids', file: 'pids.max', value: String(pids) },
    ...ioKnob(io && `${io.device} ${io.bytesPerSecond}`, 'blkio.throttle.read_bps_device'),
    ...ioKnob(io && `${io.device} ${io.bytesPerSecond}`, 'blkio.throttle.write_bps_device'),
  ],
  async read(read) {
    const peak = number(await read('memory', 'memory.max_usage_in_bytes'));
    const limit = number(await read('memory', 'memory.limit_in_bytes'));
    return defined({
      cpuMs: scaled(number(await read('cpuacct', 'cpuacct.usage')), 1e-6),
      memoryBytes: number(await read('memory', 'memory.usage_in_bytes')),
      memoryPeakBytes: peak,
      memoryLimitBytes: limit,
      oomKills: field(await read('memory', 'memory.oom_control'), 'oom_kill'),
      // Newer kernels no longer count failures here (`memory.failcnt`): a peak far below the limit did not hit it.
      limitHits: peak === undefined || limit === undefined ? undefined : Number(peak >= limit - MARGIN_BYTES),
    });
  },
};

function ioKnob(value: string | undefined, file: string): Knob[] {
  return value === undefined ? [] : [{ controller: 'io', file, value }];
}

/** @returns the number behind a name in lines of `name number` */
function field(text: string | undefined, name: string): number | undefined {
  const line = text?.split('\n').find((one) => one.startsWith(`${name} `));
  return number(line?.slice(name.length + 1));
}

/** `max` is not a number: nothing limits it. */
function number(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+\s*$/.test(text) ? Number(text) : undefined;
}

function scaled(value: number | undefined, by: number): number | undefined {
  return value === undefined ? undefined : Math.round(value * by);
}

function defined(reading: { readonly [Name in keyof GroupReading]: GroupReading[Name] | undefined }): GroupReading {
  return Object.fromEntries(Object.entries(reading).filter(([, value]) => value !== undefined));
}
