import { parseArgs } from 'node:util';
import type { Measurement } from './figure.ts';
import type { GroupOptions } from './group-options.ts';

export interface Group {
  readonly what: string;
  readonly defaultN: number;
  /** Loads the measured code only when it runs. */
  readonly measure: (options: GroupOptions) => Promise<readonly Measurement[]>;
}

export const GROUPS: Readonly<Record<string, Group>> = {
  dispatch: {
    what: 'submit → first activity running, against a 5 s poller',
    defaultN: 30,
    measure: async (options) => (await import('./groups/dispatch.ts')).measureDispatch(options),
  },
  boot: {
    what: 'cold boot → hello of the agent, against QEMU started by hand with the same arguments',
    defaultN: 7,
    measure: async (options) => (await import('./groups/boot.ts')).measureBoot(options),
  },
  vm: {
    what: 'clone → agent answers, pause, resume, memory, many clones, against cold boots; submit → guest ready',
    defaultN: 10,
    measure: async (options) => (await import('./groups/vm.ts')).measureVm(options),
  },
  growth: {
    what: 'clones of guests with more memory, over larger disks, and beside more of them, against cold boots',
    defaultN: 5,
    measure: async (options) => (await import('./groups/growth.ts')).measureGrowth(options),
  },
  provision: {
    what: 'root disk of a VM over a full image of 3 GB, each way to make it, against a full copy',
    defaultN: 50,
    measure: async (options) => (await import('./groups/provision.ts')).measureProvision(options),
  },
  limits: {
    what: 'rounds of a loop in a guest beside a guest that takes all it can, against the same guest alone',
    defaultN: 5,
    measure: async (options) => (await import('./groups/limits.ts')).measureLimits(options),
  },
  logs: {
    what: 'a service that writes its log as fast as it can, for as many seconds as samples: lines, memory of both workers',
    defaultN: 60,
    measure: async (options) => (await import('./groups/logs.ts')).measureLogs(options),
  },
  'log-readers': {
    what: '200 readers of quiet logs, for as many seconds as samples: calls of Temporal and store; print → reader, against a poller',
    defaultN: 60,
    measure: async (options) => (await import('./groups/log-readers.ts')).measureLogReaders(options),
  },
  pool: {
    what: '500 recorded requests in bursts through the real pool, on a turned clock: hit rate, waits, recycles',
    defaultN: 500,
    measure: async (options) => (await import('./groups/pool.ts')).measurePool(options),
  },
  'pool-guests': {
    what: 'the 500 recorded requests through a pool of real guests, pauses cut short, against clones on demand',
    defaultN: 500,
    measure: async (options) => (await import('./groups/pool-guests.ts')).measurePoolOfGuests(options),
  },
  running: {
    what: 'submit → running with a warm build cache, against poll + full copy + cold boot',
    defaultN: 5,
    measure: async (options) => (await import('./groups/running.ts')).measureRunning(options),
  },
  session: {
    what: 'message → first byte: to a session at rest, at work, to a new thread, to many at once; against one activity that execs',
    defaultN: 60,
    measure: async (options) => (await import('./groups/sessions/message.ts')).measureSession(options),
  },
  'session-rest': {
    what: 'warm sessions at rest, for as many seconds as samples: calls of Temporal and store, CPU; 100 wakes; a slow store',
    defaultN: 300,
    measure: async (options) => (await import('./groups/sessions/rest.ts')).measureSessionRest(options),
  },
  'session-saves': {
    what: 'a save after one changed file, a restore on the same host and on another, 2 to 100 MiB; against a tar of everything',
    defaultN: 5,
    measure: async (options) => (await import('./groups/sessions/saves.ts')).measureSessionSaves(options),
  },
  'session-long': {
    what: 'one session with as many runs as samples, over the fake driver: order, starts, executions, what is carried on',
    defaultN: 1_000,
    measure: async (options) => (await import('./groups/sessions/long.ts')).measureSessionLong(options),
  },
};

export interface BenchCommand {
  readonly groups: readonly string[];
  readonly json: boolean;
  readonly help: boolean;
  /** Samples to take; absent = each group's default. */
  readonly n?: number;
  /** Sessions at a time; absent = each group's default. */
  readonly sessions?: number;
}

/**
 * `[GROUP…] [--json] [--n N] [--sessions N] [--help]`; no group means all of them.
 * @throws Error that names what is wrong and what would be right.
 */
export function parseBenchCommand(argv: readonly string[]): BenchCommand {
  const { positionals, values } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
      n: { type: 'string' },
      sessions: { type: 'string' },
    },
  });
  const unknown = positionals.find((word) => !Object.hasOwn(GROUPS, word));
  if (unknown !== undefined) {
    throw new Error(`unknown group ${JSON.stringify(unknown)}: there are ${Object.keys(GROUPS).join(', ')}`);
  }
  return {
    groups: positionals.length > 0 ? positionals : Object.keys(GROUPS),
    json: values.json,
    help: values.help,
    ...(values.n === undefined ? {} : { n: countOf('n', values.n) }),
    ...(values.sessions === undefined ? {} : { sessions: countOf('sessions', values.sessions) }),
  };
}

function countOf(option: string, word: string): number {
  if (!/^[1-9]\d{0,3}$/.test(word)) {
    throw new Error(`--${option} needs a number from 1 to 9999, not ${JSON.stringify(word)}`);
  }
  return Number(word);
}
