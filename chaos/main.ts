/** `npm run chaos -- [--minutes N] [--seed S] [--schedules N] [--together N] [--json]`: random schedules until told to end. */
import { DefaultLogger, Runtime } from '@temporalio/worker';
import { Command, InvalidArgumentError } from 'commander';
import { startServers } from '../test/support/servers/servers.global.ts';
import { runEvents } from './run-events.ts';
import { type ChaosEvent, inOrder, scheduleOf } from './schedule.ts';
import { shrink } from './shrink.ts';

interface Options {
  readonly minutes: number;
  readonly seed: number;
  readonly schedules?: number;
  readonly together: number;
  readonly json: boolean;
  readonly keepWhole: boolean;
}

const SPAN_MS = 4_000;
const SETTLE_MS = 45_000;
const SHRINK_RUNS = 40;

const positive = (text: string): number => {
  const value = Number(text);
  if (Number.isFinite(value) && value > 0) return value;
  throw new InvalidArgumentError('Give a number above 0.');
};
const values = new Command('chaos')
  .description('Random schedules of kills, failures and stops against a Kiln over the fake driver, until told to end.')
  .option('--minutes <number>', 'begin no further batch after this long', positive, 5)
  .option('--seed <number>', 'seed of the first schedule; each further one has the next', positive, 1)
  .option('--schedules <number>', 'end after so many (default: no limit)', positive)
  .option('--together <number>', 'schedules of a batch, which share one stack', positive, 8)
  .option('--json', 'a record a line', false)
  .option('--keep-whole', 'do not look for the shortest form of what fails', false)
  .parse()
  .opts<Options>();

// The replays that judge a history would tell of each worker's start and end.
Runtime.install({ shutdownSignals: [], logger: new DefaultLogger('ERROR') });
const asked = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => asked.abort());
const until = Date.now() + values.minutes * 60_000;
const most = values.schedules ?? Number.POSITIVE_INFINITY;
const { together } = values;
const servers = await startServers();
const totals = { schedules: 0, events: 0, workloads: 0, failed: 0 };
let { seed } = values;

function say(record: Record<string, unknown>, text: string): void {
  process.stdout.write(`${values.json ? JSON.stringify(record) : text}\n`);
}

async function runOnce(events: readonly ChaosEvent[]): Promise<string[]> {
  return runEvents(inOrder(events), { servers, settleMs: SETTLE_MS, signal: asked.signal }).catch((error: unknown) => [
    String(error),
  ]);
}

/** Several schedules on one stack: each is a neighbour to the others. @returns whether nothing went wrong */
async function runBatch(seeds: readonly number[]): Promise<void> {
  const events = inOrder(seeds.flatMap((one) => scheduleOf(one, { spanMs: SPAN_MS })));
  const wrong = await runOnce(events);
  totals.schedules += seeds.length;
  totals.events += events.length;
  totals.workloads += events.filter(({ kind }) => kind === 'create').length;
  say(
    { seeds, events: events.length, wrong },
    `seeds ${seeds[0]}…${seeds.at(-1)}: ${wrong.length === 0 ? 'ok' : wrong.join('\n  ')}`,
  );
  if (wrong.length === 0) return;
  totals.failed += 1;
  if (values.keepWhole || asked.signal.aborted) return;
  const shortest = await shrink(events, async (part) => (await runOnce(part)).length > 0, SHRINK_RUNS);
  say({ seeds, shortest }, `shortest form:\n${shortest.map((event) => `  ${JSON.stringify(event)}`).join('\n')}`);
}

try {
  while (Date.now() < until && totals.schedules < most && !asked.signal.aborted) {
    const count = Math.min(together, most - totals.schedules);
    await runBatch(Array.from({ length: count }, () => seed++));
  }
} finally {
  await servers.stop();
}
say(
  totals,
  `${totals.schedules} schedules, ${totals.events} events, ${totals.workloads} workloads; ${totals.failed} batches failed`,
);
// Where it was broken off, calls of the client are still under way.
if (asked.signal.aborted) process.exit(130);
process.exitCode = totals.failed === 0 ? 0 : 1;
