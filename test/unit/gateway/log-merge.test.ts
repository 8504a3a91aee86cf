import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseLogEvent } from '../../../client/http/log-events.ts';
import { encodeLogCursor, type LogPositions } from '../../../contracts/api/log-page.ts';
import { isWanted, LOG_LEVELS, type NumberedLogEntry } from '../../../domain/logs/log-entry.ts';
import { mergeQueues } from '../../../domain/logs/merge-queues.ts';
import { stageLogEntries } from '../../../domain/workload/stage-log.ts';
import { createLogReader, type LogSources } from '../../../gateway/logs/log-reader.ts';
import { parseLogLines } from '../../../store/logs/log-chunks.ts';

const BASE = Date.parse('2026-01-01T00:00:00.000Z');
const entry = (writer: string, epoch: number, n: number, ms: number): NumberedLogEntry => ({
  timestamp: new Date(BASE + ms).toISOString(),
  stage: n % 2 === 0 ? 'build' : 'running',
  message: `${writer} ${epoch} ${n}`,
  level: LOG_LEVELS[n % 3] ?? 'info',
  epoch,
  writer,
  n,
});

/** Logs of several writers, whose clocks may jump backwards. */
const writings = fc.uniqueArray(
  fc.record({
    writer: fc.constantFrom('control', 'host-1', 'host-2'),
    epoch: fc.nat(2),
    times: fc.array(fc.nat(50), { maxLength: 12 }),
  }),
  { selector: ({ writer, epoch }) => `${epoch}-${writer}`, maxLength: 6 },
);

/** A reader over chunks in memory, and over a host that still holds the end of its own log. */
function readerOf(
  written: readonly { writer: string; epoch: number; times: readonly number[] }[],
  shipped: number,
  hostPage = 3,
) {
  const logs = written.map(({ writer, epoch, times }) => ({
    writer,
    epoch,
    entries: times.map((ms, n) => entry(writer, epoch, n, ms)),
  }));
  const inStore = (log: (typeof logs)[number]) =>
    log.writer === 'host-1' ? log.entries.slice(0, shipped) : log.entries;
  const find = (writer: string, epoch: number) => logs.find((log) => log.writer === writer && log.epoch === epoch);
  const sources: LogSources = {
    chunks: {
      writers: async (workloadId) => logs.map(({ writer, epoch }) => ({ workloadId, writer, epoch })),
      read: async ({ writer, epoch }, { after, limit }) => {
        const log = find(writer, epoch);
        return log === undefined
          ? []
          : inStore(log)
              .filter(({ n }) => n > after)
              .slice(0, limit);
      },
      tail: async ({ writer, epoch }, limit) => {
        const log = find(writer, epoch);
        const entries = log === undefined ? [] : inStore(log);
        return { entries: entries.slice(-limit), truncated: entries.length > limit };
      },
    },
    host: async (hostId) => ({
      hostId,
      url: 'http://x',
      at: new Date(BASE).toISOString(),
      capacity: { vcpus: 1, memMib: 1 },
      free: { vcpus: 1, memMib: 1 },
      load: 0,
      images: [],
      driver: 'fake',
      versions: {},
      draining: false,
    }),
    // A host answers with fewer lines than requested if they would be too long.
    fetchHostLogs: async (host, _id, { epoch = 0, after = -1, limit }) => {
      const log = find(host.hostId, epoch);
      const entries = log?.entries.filter(({ n }) => n > after).slice(0, Math.min(limit, hostPage)) ?? [];
      return log && { entries, writer: host.hostId, epoch, more: entries.length === Math.min(limit, hostPage) };
    },
    hostFreshMs: 1000,
    now: () => BASE,
  };
  const reachable = logs.flatMap((log) => (log.epoch === 0 ? log.entries : inStore(log)));
  return { reader: createLogReader(sources), reachable };
}

const place = { workloadId: 'a', hostId: 'host-1', epoch: 0 };
const key = ({ writer, epoch, n }: NumberedLogEntry) => `${epoch}-${writer}-${n}`;

describe('a log of many writers', () => {
  it('comes whole, each line once, each writer in his order, whatever the size of the pages', async () => {
    await fc.assert(
      fc.asyncProperty(writings, fc.integer({ min: 1, max: 7 }), fc.nat(12), async (written, limit, shipped) => {
        const { reader, reachable } = readerOf(written, shipped);
        const seen: NumberedLogEntry[] = [];
        let positions: LogPositions = {};
        for (let more = true; more; ) {
          const page = await reader.page(place, { positions, limit });
          seen.push(...page.entries);
          positions = page.positions;
          more = page.more;
        }
        expect(seen.map(key).sort()).toEqual(reachable.map(key).sort());
        for (const { writer, epoch } of written) {
          const numbers = seen.filter((one) => one.writer === writer && one.epoch === epoch).map(({ n }) => n);
          expect(numbers).toEqual(numbers.map((_, index) => index));
        }
      }),
    );
  });

  it('is in the order of time where every clock goes forward', async () => {
    await fc.assert(
      fc.asyncProperty(writings, async (written) => {
        const forward = written.map((one) => ({ ...one, times: [...one.times].sort((a, b) => a - b) }));
        const { reader } = readerOf(forward, 12);
        const entries: NumberedLogEntry[] = [];
        for (let positions: LogPositions = {}, more = true; more; ) {
          const page = await reader.page(place, { positions, limit: 1000 });
          entries.push(...page.entries);
          ({ positions, more } = page);
        }
        const times = entries.map(({ timestamp }) => timestamp);
        expect(times).toEqual([...times].sort());
      }),
    );
  });

  it('of which only some are wanted comes whole as well, and its cursors stay good with any filter', async () => {
    const filters = fc.record(
      { stage: fc.constantFrom('build', 'running'), level: fc.constantFrom('info', 'warn', 'error') },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(writings, fc.integer({ min: 1, max: 4 }), filters, async (written, limit, filter) => {
        const { reader, reachable } = readerOf(written, 6);
        const seen: NumberedLogEntry[] = [];
        for (let positions: LogPositions = {}, more = true; more; ) {
          const page = await reader.page(place, { positions, limit, filter });
          expect(page.entries.length).toBeLessThanOrEqual(limit);
          // The next request always makes progress, with or without lines.
          if (page.more) expect(page.positions).not.toEqual(positions);
          seen.push(...page.entries);
          ({ positions, more } = page);
        }
        expect(seen.map(key).sort()).toEqual(
          reachable
            .filter((one) => isWanted(one, filter))
            .map(key)
            .sort(),
        );
      }),
    );
  });

  it('looks at a bounded number of lines for one page of those that are wanted', async () => {
    const written = [{ writer: 'control', epoch: 0, times: Array.from({ length: 30_000 }, (_, n) => n) }];
    const { reader } = readerOf(written, 0);
    const page = await reader.page(place, { positions: {}, limit: 10, filter: { stage: 'deploy' } });
    expect(page).toMatchObject({ entries: [], more: true, positions: { '0-control': 19_999 } });
    const next = await reader.page(place, { positions: page.positions, limit: 10, filter: { stage: 'deploy' } });
    expect(next).toMatchObject({ entries: [], more: false, positions: { '0-control': 29_999 } });
  });

  it('has the moves between stages in it while nobody has written anything yet', async () => {
    const { reader } = readerOf([], 0);
    const at = (ms: number) => new Date(BASE + ms).toISOString();
    const derived = stageLogEntries({
      moves: [
        { seq: 1, at: at(1), from: 'pending', to: 'validate', cause: 'placed on host-1' },
        { seq: 2, at: at(2), from: 'validate', to: 'failed', cause: 'CONFIG_INVALID' },
      ],
    });
    const first = await reader.page({ workloadId: 'a', derived }, { positions: {}, limit: 1 });
    const rest = await reader.page({ workloadId: 'a', derived }, { positions: first.positions, limit: 5 });
    expect([...first.entries, ...rest.entries].map(({ stage, level, message }) => ({ stage, level, message }))).toEqual(
      [
        { stage: 'validate', level: 'info', message: 'pending → validate: placed on host-1' },
        { stage: 'failed', level: 'error', message: 'validate → failed: CONFIG_INVALID' },
      ],
    );
    expect((await reader.tail({ workloadId: 'a', derived }, 1)).entries).toEqual(rest.entries);
  });

  it('shows its last lines, and says whether there are earlier ones', async () => {
    await fc.assert(
      fc.asyncProperty(writings, fc.integer({ min: 1, max: 20 }), fc.nat(12), async (written, limit, shipped) => {
        const { reader, reachable } = readerOf(written, shipped);
        const tail = await reader.tail(place, limit);
        expect(tail.entries).toHaveLength(Math.min(limit, reachable.length));
        expect(tail.truncated).toBe(reachable.length > limit);
      }),
    );
  });

  it('is not more than was asked for', () => {
    const queue = [entry('a', 0, 0, 5), entry('a', 0, 1, 3)];
    const other = { entries: [entry('b', 0, 0, 4)], goesOn: false };
    expect(mergeQueues([{ entries: queue, goesOn: false }, other], 2)).toEqual({
      entries: [entry('b', 0, 0, 4), entry('a', 0, 0, 5)],
      left: true,
    });
    expect(mergeQueues([other, { entries: [entry('c', 0, 0, 1)], goesOn: true }], 9)).toEqual({
      entries: [entry('c', 0, 0, 1)],
      left: true,
    });
    expect(mergeQueues([], 2)).toEqual({ entries: [], left: false });
  });
});

describe('parsers of what others wrote', () => {
  it('chunks: every whole line is kept, nothing else, whatever the text', () => {
    const good = JSON.stringify(entry('host-1', 1, 0, 0));
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            fc.string(),
            fc.constant(good),
            fc.jsonValue().map((value) => JSON.stringify(value)),
          ),
        ),
        (lines) => {
          const flat = lines.flatMap((line) => line.split('\n'));
          expect(parseLogLines(lines.join('\n'))).toHaveLength(flat.filter((line) => line === good).length);
        },
      ),
    );
  });

  it('events of a stream: an event, an unknown one, or a known error', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('log', 'end', 'problem', 'other'),
        fc.oneof(fc.string(), fc.json()),
        (event, data) => {
          try {
            const parsed = parseLogEvent({ event, data, id: 'x' });
            expect(parsed === undefined).toBe(event === 'other');
          } catch (error) {
            expect(error).toMatchObject({ name: 'KilnError' });
          }
        },
      ),
    );
    const shown = { timestamp: new Date(BASE).toISOString(), stage: 'build', message: 'm', level: 'info' };
    const id = encodeLogCursor({ '1-control': 0 });
    expect(parseLogEvent({ event: 'log', data: JSON.stringify(shown), id })).toEqual({
      kind: 'log',
      cursor: id,
      entry: shown,
    });
    expect(() => parseLogEvent({ event: 'log', data: JSON.stringify(shown), id: undefined })).toThrow();
  });
});
