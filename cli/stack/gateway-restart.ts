import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { KilnError } from '../../domain/failures.ts';
import { processStartTime } from '../../linux/process-identity.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { PROCESSES_FILE, readRecorded } from '../dev/left-processes.ts';

export interface RestartTimings {
  /** From SIGTERM to SIGKILL. */
  readonly graceMs: number;
  /** How long the new gateway may take to answer. */
  readonly deadlineMs: number;
  readonly pollMs: number;
}

const GATEWAY = 'gateway';

/**
 * `kiln gateway restart`: ends the gateway of this machine's stack; the stack's supervisor starts it again at once, on
 * the same port. Nothing else is touched: workloads go on, and callers see refused connections for a moment.
 * @throws UNSUPPORTED where the gateway is not one of a stack on this machine, TIMED_OUT where it does not answer again
 */
export async function gatewayRestart(
  context: CliContext,
  output: CommandOutput,
  timings: RestartTimings,
): Promise<number> {
  const { local, apiUrl, source } = await context.findStack();
  if (local === undefined) {
    throw new KilnError(
      'UNSUPPORTED',
      `The gateway at ${apiUrl} (${source}) was not started by a \`kiln dev\` on this machine. Restart it where it runs.`,
    );
  }
  const record = join(local.home, PROCESSES_FILE);
  const before = (await readRecorded(record))[GATEWAY];
  const runs = before !== undefined && (await processStartTime(before.pid)) === before.startTime;
  if (before !== undefined && runs) await end(before, timings);
  const pid = await successor(record, before?.pid, timings);
  await answering(apiUrl, timings);
  output.answer({ apiUrl, ...(before === undefined ? {} : { before: before.pid }), pid }, () => [
    `${apiUrl}  restarted, pid ${pid}`,
  ]);
  return EXIT.ok;
}

async function end({ pid, startTime }: { pid: number; startTime: string }, timings: RestartTimings): Promise<void> {
  const lives = async () => (await processStartTime(pid)) === startTime;
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (!(await lives())) return;
    process.kill(-pid, signal);
    const deadline = Date.now() + timings.graceMs;
    while ((await lives()) && Date.now() < deadline) await delay(timings.pollMs);
  }
}

async function successor(record: string, before: number | undefined, timings: RestartTimings): Promise<number> {
  const deadline = Date.now() + timings.deadlineMs;
  for (;;) {
    const now = (await readRecorded(record))[GATEWAY];
    if (now !== undefined && now.pid !== before && (await processStartTime(now.pid)) === now.startTime) return now.pid;
    if (Date.now() > deadline) throw late('The supervisor of the stack did not start the gateway again');
    await delay(timings.pollMs);
  }
}

async function answering(apiUrl: string, timings: RestartTimings): Promise<void> {
  const deadline = Date.now() + timings.deadlineMs;
  for (;;) {
    const answered = await fetch(`${apiUrl}/healthz`, { signal: AbortSignal.timeout(timings.deadlineMs) }).then(
      ({ ok }) => ok,
      () => false,
    );
    if (answered) return;
    if (Date.now() > deadline) throw late('The new gateway does not answer');
    await delay(timings.pollMs);
  }
}

function late(what: string): KilnError {
  return new KilnError('TIMED_OUT', `${what} in time. Read logs/gateway.log in the stack's home.`);
}
