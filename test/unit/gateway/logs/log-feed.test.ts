import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defined } from '../../../../domain/defined.ts';
import { KilnError } from '../../../../domain/failures.ts';
import type { NumberedLogEntry } from '../../../../domain/logs/log-entry.ts';
import type { HostFollowAnswer, HostFollowQuery } from '../../../../gateway/logs/host-logs.ts';
import {
  createLogFeeds,
  type FeedNews,
  type FeedPosition,
  type LocatedWorkload,
  type LogFeed,
  type LogFeedLimits,
  type LogFeeds,
} from '../../../../gateway/logs/log-feed.ts';

const AT = '2026-01-01T00:00:00.000Z';
const HOUR = 3_600_000;
const LIMITS: LogFeedLimits = {
  pollMs: 1,
  maxPollMs: 1,
  followMs: HOUR,
  gatherMs: 0,
  lookEveryMs: 10 * HOUR,
  movedLookEveryMs: HOUR / 2,
  pageSize: 100,
};
const line = (n: number, message = `line ${n}`): NumberedLogEntry => ({
  timestamp: AT,
  stage: 'running',
  message,
  level: 'info',
  epoch: 1,
  writer: 'h1',
  n,
});

/** A request that is waiting at the host. */
interface Held {
  readonly query: HostFollowQuery;
  readonly signal: AbortSignal;
  readonly answer: (more?: Partial<HostFollowAnswer>) => void;
  readonly fail: (error: Error) => void;
}

let placed: LocatedWorkload;
/** Absent: no work is in progress at the host. */
let mark: string | undefined;
let looks: number;
let hostReads: number;
let onLook: () => void;
let waiting: Held[];
let arrived: (() => void)[];
let feeds: LogFeeds;
const joined: LogFeed[] = [];

const feedsOf = (limits: Partial<LogFeedLimits> = {}) =>
  createLogFeeds({
    locate: async () => {
      looks += 1;
      onLook();
      return placed;
    },
    host: async (hostId) => {
      hostReads += 1;
      return {
        hostId,
        url: 'http://h1',
        at: AT,
        load: 0,
        images: [],
        driver: 'fake',
        versions: {},
        draining: false,
        capacity: { vcpus: 1, memMib: 1 },
        free: { vcpus: 1, memMib: 1 },
      };
    },
    hostFreshMs: 1,
    now: () => Date.parse(AT),
    follow: (_host, _id, query, signal) => {
      const { promise, resolve, reject } = Promise.withResolvers<HostFollowAnswer>();
      const answer = (more: Partial<HostFollowAnswer> = {}) =>
        resolve({ entries: [], writer: 'h1', epoch: 1, more: false, ...defined({ mark }), ...more });
      if (query.waitMs === 0) answer();
      else {
        waiting.push({ query, signal, answer, fail: reject });
        signal.addEventListener('abort', () => reject(new KilnError('HOST_LOST', 'aborted')), { once: true });
        arrived.shift()?.();
      }
      return promise;
    },
    limits: { ...LIMITS, ...limits },
    onHeld: () => undefined,
  });
const join = (id = 'w'): LogFeed => {
  const feed = feeds.join(id);
  joined.push(feed);
  return feed;
};
const next = (feed: LogFeed, position: FeedPosition, signal = new AbortController().signal): Promise<FeedNews> =>
  feed.next(position, HOUR, signal);
/** The next request that waits at the host; waits until there is one. */
async function held(): Promise<Held> {
  const first = waiting.shift();
  if (first !== undefined) return first;
  await new Promise<void>((resolve) => arrived.push(resolve));
  return held();
}

beforeEach(() => {
  placed = { place: { workloadId: 'w', hostId: 'h1', epoch: 1 }, stage: 'running', isOpen: true };
  mark = 'm-1';
  looks = 0;
  hostReads = 0;
  onLook = () => undefined;
  waiting = [];
  arrived = [];
  feeds = feedsOf();
});
afterEach(() => {
  for (const feed of joined.splice(0)) feed.leave();
});

describe('the feed of a log', () => {
  it('asks nobody but the host while nothing happens, however often its time is over there', async () => {
    const feed = join();
    const look = await feed.look();
    const news = next(feed, { look: look.number, epoch: 1, after: 6 });
    // The second read at the host returned the mark.
    expect([looks, hostReads]).toEqual([2, 2]);
    for (let round = 0; round < 20; round++) {
      const request = await held();
      expect(request.query).toEqual({ epoch: 1, after: 6, mark: 'm-1', waitMs: HOUR, limit: 100 });
      request.answer();
    }
    (await held()).answer({ entries: [line(7)] });
    expect(await news).toEqual({ kind: 'lines', lines: [line(7)] });
    expect([looks, hostReads]).toEqual([2, 2]);
  });

  it('is one request for all readers of a workload, each of which goes on from where it is', async () => {
    const readers = Array.from({ length: 50 }, () => join());
    const [look] = await Promise.all(readers.map((feed) => feed.look()));
    const number = look?.number ?? 0;
    const news = readers.map((feed, index) => next(feed, { look: number, epoch: 1, after: index === 0 ? 3 : 4 }));
    const request = await held();
    expect(request.query.after).toBe(3);
    request.answer({ entries: [line(4), line(5)] });
    const [first, ...rest] = await Promise.all(news);
    expect(first).toEqual({ kind: 'lines', lines: [line(4), line(5)] });
    for (const one of rest) expect(one).toEqual({ kind: 'lines', lines: [line(5)] });
    expect([looks, waiting.length]).toEqual([2, 0]);
  });

  it('keeps lines for a reader that is slow, which holds up no other; one that is too slow reads pages', async () => {
    const [quick, slow] = [join(), join()];
    const { number } = await quick.look();
    const at = (after: number) => ({ look: number, epoch: 1, after });
    for (let n = 0; n < 3; n++) {
      const news = next(quick, at(n - 1));
      (await held()).answer({ entries: [line(n)] });
      expect(await news).toEqual({ kind: 'lines', lines: [line(n)] });
    }
    expect(await next(slow, at(-1))).toEqual({ kind: 'lines', lines: [line(0), line(1), line(2)] });
    const flood = next(quick, at(2));
    const many = Array.from({ length: 2_000 }, (_, index) => line(3 + index));
    (await held()).answer({ entries: many });
    // The feed does not hold this many lines: the quick reader must read pages too.
    expect([await flood, await next(slow, at(2))]).toEqual([{ kind: 'gap' }, { kind: 'gap' }]);
    const late = next(quick, at(2_002));
    (await held()).answer({ entries: [line(2_003)] });
    expect(await late).toEqual({ kind: 'lines', lines: [line(2_003)] });
  });

  it('asks for nothing further while every reader is busy', async () => {
    const feed = join();
    const { number } = await feed.look();
    const news = next(feed, { look: number, epoch: 1, after: -1 });
    (await held()).answer({ entries: [line(0)] });
    await news;
    await new Promise((resolve) => setImmediate(resolve));
    expect(waiting).toEqual([]);
    void next(feed, { look: number, epoch: 1, after: 0 });
    expect((await held()).query.after).toBe(0);
  });

  it('takes a look when something has happened at the host, whose lines are then read in their place', async () => {
    const feed = join();
    const { number } = await feed.look();
    const news = next(feed, { look: number, epoch: 1, after: -1 });
    const request = await held();
    mark = 'm-2';
    request.answer({ entries: [line(0)] });
    expect(await news).toMatchObject({ kind: 'look', look: { number: number + 1 } });
    expect(looks).toBe(3);
    void next(feed, { look: number + 1, epoch: 1, after: 0 });
    expect((await held()).query).toMatchObject({ mark: 'm-2', after: 0 });
  });

  it.each([
    ['no work is under way at the host', () => ({ mark: undefined })],
    ['there is no host yet', () => ({ placed: { ...placed, place: { workloadId: 'w' } } })],
    ['the workload is over', () => ({ placed: { ...placed, stage: 'stopped' as const, isOpen: false } })],
  ])('looks again and again while %s, and waits at the host as soon as it can', async (_when, change) => {
    const before = placed;
    const state: { placed?: LocatedWorkload; mark?: undefined } = change();
    placed = state.placed ?? placed;
    if ('mark' in state) mark = undefined;
    const feed = join();
    let { number } = await feed.look();
    for (let round = 0; round < 5; round++) {
      const news = await next(feed, { look: number, after: -1 });
      if (news.kind !== 'look') throw new Error(news.kind);
      ({ number } = news.look);
    }
    expect(waiting).toEqual([]);
    placed = before;
    mark = 'm-3';
    const news = await next(feed, { look: number, after: -1 });
    if (news.kind !== 'look') throw new Error(news.kind);
    const last = async ({ look }: { look: { number: number } }) => next(feed, { look: look.number, after: -1 });
    void last(news).then((more) => (more.kind === 'look' ? last(more) : undefined));
    expect((await held()).query).toEqual({ mark: 'm-3', waitMs: HOUR, limit: 100 });
  });

  it('looks again where the host is lost in the middle, and waits there again once it is back', async () => {
    const feed = join();
    const { number } = await feed.look();
    const news = next(feed, { look: number, epoch: 1, after: -1 });
    mark = 'of-its-next-life';
    (await held()).fail(new KilnError('HOST_LOST', 'connection reset'));
    const after = await news;
    if (after.kind !== 'look') throw new Error(after.kind);
    void next(feed, { look: after.look.number, epoch: 1, after: -1 });
    expect((await held()).query.mark).toBe('of-its-next-life');
  });

  it('does not take the lines of another host', async () => {
    const feed = join();
    const { number } = await feed.look();
    const news = next(feed, { look: number, epoch: 1, after: -1 });
    (await held()).answer({ entries: [{ ...line(0), writer: 'h2' }] });
    expect((await news).kind).toBe('look');
  });

  it('fails all readers alike where the workload cannot be found, and begins anew with the next', async () => {
    const [one, two] = [join(), join()];
    const { number } = await one.look();
    const both = [one, two].map((feed) => next(feed, { look: number, epoch: 1, after: -1 }));
    onLook = () => {
      throw new KilnError('TEMPORAL_UNAVAILABLE', 'away');
    };
    mark = undefined;
    (await held()).answer();
    for (const news of both) await expect(news).rejects.toMatchObject({ code: 'TEMPORAL_UNAVAILABLE' });
    await expect(next(one, { look: number, after: -1 })).rejects.toMatchObject({ code: 'TEMPORAL_UNAVAILABLE' });
    await expect(join().look()).rejects.toMatchObject({ code: 'TEMPORAL_UNAVAILABLE' });
    onLook = () => undefined;
    expect((await join().look()).number).toBe(1);
  });

  it('gives its place at the host back with its last reader', async () => {
    const [one, two] = [join(), join()];
    const { number } = await one.look();
    const left = new AbortController();
    const news = next(one, { look: number, epoch: 1, after: -1 }, left.signal);
    const request = await held();
    left.abort();
    expect(await news).toEqual({ kind: 'quiet' });
    one.leave();
    one.leave();
    expect(request.signal.aborted).toBe(false);
    two.leave();
    expect(request.signal.aborted).toBe(true);
    const { number: first } = await join().look();
    expect(first).toBe(1);
  });

  it('looks from time to time in any case, and more often at a workload that was moved', async () => {
    const feed = join();
    const { number } = await feed.look();
    void next(feed, { look: number, epoch: 2, after: -1 });
    expect((await held()).query.waitMs).toBeLessThanOrEqual(LIMITS.movedLookEveryMs);
    feeds = feedsOf({ lookEveryMs: 1 });
    const soon = join();
    const { number: first } = await soon.look();
    // The interval may have passed before the host is asked, or may not have passed after an answer.
    const answerAll = async (): Promise<void> => {
      (await held()).answer();
      return answerAll();
    };
    void answerAll();
    expect((await next(soon, { look: first, epoch: 1, after: -1 })).kind).toBe('look');
  });

  it('tells a reader that nothing came for as long as it wanted to wait', async () => {
    const feed = join();
    const { number } = await feed.look();
    expect(await feed.next({ look: number, epoch: 1, after: -1 }, 1, new AbortController().signal)).toEqual({
      kind: 'quiet',
    });
  });
});
