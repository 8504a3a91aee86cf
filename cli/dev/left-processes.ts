import { readFile, rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import writeFileAtomic from 'write-file-atomic';
import { z } from 'zod';
import { KilnError } from '../../domain/failures.ts';
import { processStartTime } from './process-start-time.ts';

const schema = z.record(z.string(), z.object({ pid: z.int().min(2), startTime: z.string().min(1) }));

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

/**
 * Ends the processes that an earlier supervisor of this home recorded and that still run: two servers on one database
 * would destroy it. @returns their names
 */
export async function endLeftProcesses(path: string, options: { graceMs: number; pollMs: number }): Promise<string[]> {
  const recorded = Object.entries(await readRecorded(path));
  const ended: string[] = [];
  // The last started first: workers let go of their servers in an orderly way only while these still answer.
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

/** @throws CONFIG_INVALID: with a record that says nothing, a server may be running that nobody knows of */
async function readRecorded(path: string): Promise<z.infer<typeof schema>> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return '{}';
    throw error;
  });
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
