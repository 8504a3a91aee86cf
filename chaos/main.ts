/**
 * `npm run chaos -- [--minutes N] [--seed S] [--schedules N] [--together N] [--json]`: random schedules of workloads until
 * told to end. `npm run chaos -- sessions [--lives N] [--seed S] [--together N] [--guests fake|qemu] [--json]`: random
 * lives of sessions.
 */
import { DefaultLogger, Runtime } from '@temporalio/worker';
import { Command, InvalidArgumentError, Option } from 'commander';
import type { Say } from './say.ts';
import { type LivesRunOptions, runSessionLives } from './sessions/session-lives.ts';
import { runSchedules, type ScheduleRunOptions } from './workload-schedules.ts';

const asked = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  // What is under way is ended in order; a second signal does not wait for that.
  process.on(signal, () => (asked.signal.aborted ? process.exit(130) : asked.abort()));
}

const positive = (text: string): number => {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('Give a number above 0.');
};
const sayAs =
  (json: boolean): Say =>
  (record, text) =>
    void process.stdout.write(`${json ? JSON.stringify(record) : text}\n`);

/** @param findings of the run */
function end(findings: number): void {
  // Where it was broken off, calls of the client are still under way.
  if (asked.signal.aborted) process.exit(130);
  process.exitCode = findings === 0 ? 0 : 1;
}

// The replays that judge a history would tell of each worker's start and end.
Runtime.install({ shutdownSignals: [], logger: new DefaultLogger('ERROR') });
const program = new Command('chaos')
  .description('Random schedules of kills, failures and stops against a Kiln over the fake driver, until told to end.')
  .option('--minutes <number>', 'begin no further batch after this long', positive, 5)
  .option('--seed <number>', 'seed of the first schedule; each further one has the next', positive, 1)
  .option('--schedules <number>', 'end after so many (default: no limit)', positive)
  .option('--together <number>', 'schedules of a batch, which share one stack', positive, 8)
  .option('--json', 'a record a line', false)
  .option('--keep-whole', 'do not look for the shortest form of what fails', false)
  .enablePositionalOptions()
  .action(async (values: ScheduleRunOptions & { json: boolean }) => {
    end(await runSchedules(values, sayAs(values.json), asked.signal));
  });
program
  .command('sessions')
  .description('Random lives of sessions, their workspaces compared with a model after every run.')
  .option('--lives <number>', 'how many', positive, 20)
  .option('--seed <number>', 'seed of the first life; each further one has the next', positive, 1)
  .option('--together <number>', 'lives that share one stack', positive, 4)
  .addOption(new Option('--guests <kind>', 'processes, or VMs').choices(['fake', 'qemu']).default('fake'))
  .option('--json', 'a record a line', false)
  .action(async (values: LivesRunOptions & { json: boolean }) => {
    end(await runSessionLives(values, sayAs(values.json), asked.signal));
  });
await program.parseAsync();
