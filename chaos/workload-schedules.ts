/** `npm run chaos`: random schedules of workloads until told to end. */
import { startServers } from '../test/support/servers/servers.global.ts';
import { runEvents } from './run-events.ts';
import type { Say } from './say.ts';
import { type ChaosEvent, inOrder, scheduleOf } from './schedule.ts';
import { shrink } from './shrink.ts';

export interface ScheduleRunOptions {
  readonly minutes: number;
  readonly seed: number;
  readonly schedules?: number;
  readonly together: number;
  readonly keepWhole: boolean;
}

const SPAN_MS = 4_000;
const SETTLE_MS = 45_000;
const SHRINK_RUNS = 40;

/** @returns how many batches failed */
export async function runSchedules(values: ScheduleRunOptions, say: Say, signal: AbortSignal): Promise<number> {
  const until = Date.now() + values.minutes * 60_000;
  const most = values.schedules ?? Number.POSITIVE_INFINITY;
  const servers = await startServers();
  const totals = { schedules: 0, events: 0, workloads: 0, failed: 0 };
  let { seed } = values;
  const runOnce = (events: readonly ChaosEvent[]): Promise<string[]> =>
    runEvents(inOrder(events), { servers, settleMs: SETTLE_MS, signal }).catch((error: unknown) => [String(error)]);
  /** Several schedules on one stack: each is a neighbour to the others. */
  const runBatch = async (seeds: readonly number[]): Promise<void> => {
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
    if (values.keepWhole || signal.aborted) return;
    const shortest = await shrink(events, async (part) => (await runOnce(part)).length > 0, SHRINK_RUNS);
    say({ seeds, shortest }, `shortest form:\n${shortest.map((event) => `  ${JSON.stringify(event)}`).join('\n')}`);
  };
  try {
    while (Date.now() < until && totals.schedules < most && !signal.aborted) {
      const count = Math.min(values.together, most - totals.schedules);
      await runBatch(Array.from({ length: count }, () => seed++));
    }
  } finally {
    await servers.stop();
  }
  say(
    totals,
    `${totals.schedules} schedules, ${totals.events} events, ${totals.workloads} workloads; ${totals.failed} batches failed`,
  );
  return totals.failed;
}
