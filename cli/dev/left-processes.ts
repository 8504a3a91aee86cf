import { readdir, readFile, rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import writeFileAtomic from 'write-file-atomic';
import { z } from 'zod';
import { KilnError } from '../../domain/failures.ts';
import { processStartTime } from '../../linux/process-identity.ts';
import { readTextIfThere } from '../../linux/read-text.ts';

const processSchema = z.object({ pid: z.int().min(2), startTime: z.string().min(1) });
type LeftProcess = z.infer<typeof processSchema>;
const schema = z.record(z.string(), processSchema);

/** Notes which processes a stack runs, so that the next one finds what a supervisor killed by force left behind. */
export async function recordProcesses(path: string, pids: Readonly<Record<string, number>>): Promise<void> {
  const entries = await Promise.all(
    Object.entries(pids).map(async ([name, pid]) => [name, { pid, startTime: await processStartTime(pid) }] as const),
  );
  await writeFileAtomic(
    path,
    JSON.stringify(Object.fromEntries(entries.filter(([, { startTime }]) => startTime !== ''))),
  );
}

/** In a stack's home: which processes run it. */
export const PROCESSES_FILE = 'processes.json';

/** Environment variable that marks a process of a stack, whether or not it was recorded. */
const MARK = 'KILN_STACK_PROCESS';
/** Workers disconnect from these in an orderly way, so these end last. */
const SERVERS: readonly string[] = ['temporal', 's3'];

/** @returns what a supervisor adds to the environment of a process of the stack in `home`. */
export function processMark(home: string, name: string): Record<string, string> {
  return { [MARK]: `${name}@${home}` };
}

/**
 * Every process that a supervisor of this home started, by the mark in its environment: also one that was started by a
 * supervisor that died before it could record it.
 */
async function markedProcesses(home: string): Promise<[string, LeftProcess][]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found: [string, LeftProcess][] = [];
  for (const pid of pids) {
    // Other users' processes and those that have just ended cannot be read, and none of them is ours.
    const environment = await readFile(`/proc/${pid}/environ`, 'latin1').catch(() => '');
    const mark = environment.split('\0').find((entry) => entry.startsWith(`${MARK}=`) && entry.endsWith(`@${home}`));
    if (mark === undefined || !(await leadsGroup(pid))) continue;
    const name = mark.slice(MARK.length + 1, -home.length - 1);
    found.push([name, { pid, startTime: await processStartTime(pid) }]);
  }
  // They are ended from the last to the first.
  return found.sort(([a], [b]) => Number(SERVERS.includes(b)) - Number(SERVERS.includes(a)));
}

/** Children of a process of the stack carry the mark too, and end with its group. */
async function leadsGroup(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '');
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[2]) === pid;
}

/**
 * Ends the processes that an earlier supervisor of this home started and that still run: two servers on one database
 * would destroy it. @param path where that supervisor recorded them
 * @returns their names
 */
export async function endLeftProcesses(
  path: string,
  home: string,
  options: { graceMs: number; pollMs: number },
): Promise<string[]> {
  const known = Object.entries(await readRecorded(path));
  const unknown = (await markedProcesses(home)).filter(([, { pid }]) => known.every(([, other]) => other.pid !== pid));
  const recorded = [...known, ...unknown];
  const ended: string[] = [];
  // The last started first: workers disconnect from their servers in an orderly way only while these still answer.
  for (const [name, { pid, startTime }] of recorded.reverse()) {
    const isLeft = async () => (await processStartTime(pid)) === startTime;
    if (!(await isLeft())) continue;
    ended.push(name);
    killGroup(pid, 'SIGTERM');
    const deadline = Date.now() + options.graceMs;
    while ((await isLeft()) && Date.now() < deadline) await delay(options.pollMs);
    if (await isLeft()) killGroup(pid, 'SIGKILL');
    const killDeadline = Date.now() + options.graceMs;
    while (await isLeft()) {
      if (Date.now() > killDeadline) {
        throw new KilnError(
          'CONFLICT',
          `${name} of an earlier run (pid ${pid}) does not die. End it, then start again.`,
        );
      }
      await delay(options.pollMs);
    }
  }
  await rm(path, { force: true });
  return ended;
}

/** @returns the processes of a stack by name. @throws CONFIG_INVALID for a bad record: a server may still run */
export async function readRecorded(path: string): Promise<z.infer<typeof schema>> {
  const text = (await readTextIfThere(path)) ?? '{}';
  try {
    return schema.parse(JSON.parse(text));
  } catch (error) {
    const fix = 'End what is left of the earlier stack, then remove that file.';
    throw new KilnError('CONFIG_INVALID', `${path} cannot be read. ${fix}`, { path }, error);
  }
}

function killGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // Gone between the check and the kill.
  }
}
