import { readFile, rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import writeFileAtomic from 'write-file-atomic';
import { z } from 'zod';
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
  const text = await readFile(path, 'utf8').catch(() => '{}');
  const parsed = schema.safeParse(JSON.parse(text));
  const recorded = Object.entries(parsed.success ? parsed.data : {});
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
    while (await isLeft()) await delay(options.pollMs);
  }
  await rm(path, { force: true });
  return ended;
}

function killGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch {
    // Gone between the check and the kill.
  }
}
