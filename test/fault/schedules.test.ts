/** A few of the random schedules that `npm run chaos` makes endlessly: kills, failures, stops, all at once. */
import { expect, it } from 'vitest';
import { runEvents } from '../../chaos/run-events.ts';
import { inOrder, scheduleOf } from '../../chaos/schedule.ts';
import { runServers } from '../support/servers/run-servers.ts';

const SPAN_MS = 4_000;

it.each([[[11, 12, 13, 14]], [[21, 22, 23, 24]]])(
  'schedules %j at once: every workload ends as it may, nothing is left, every history is lawful',
  async (seeds) => {
    const events = inOrder(seeds.flatMap((seed) => scheduleOf(seed, { spanMs: SPAN_MS })));
    // Every test uses the servers of the run, so only `npm run chaos`, which has its own, may stall them.
    const servers = { ...runServers(), pids: {} };
    expect(await runEvents(events, { servers, settleMs: 45_000 })).toEqual([]);
  },
);
