/**
 * What all readers of one workload's log share: reads of where the workload is, and one request that waits at its host.
 * While a host works on the workload, everything that could change its log shows on that host first: then the feed asks
 * neither Temporal nor the store. A "look" is one read of where the workload is.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { HostEntry } from '../../domain/capacity/host-entry.ts';
import { defined } from '../../domain/defined.ts';
import { isKilnError } from '../../domain/failures.ts';
import type { NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import { createRecentLines } from '../../domain/logs/recent-lines.ts';
import { backoffMs } from '../../domain/policies.ts';
import type { Stage } from '../../domain/workload/stages.ts';
import { type FreshHostOptions, freshHost } from '../hosts/fresh-host.ts';
import type { FollowHostLogs, HostFollowAnswer } from './host-logs.ts';
import type { LogPlace } from './log-reader.ts';

export interface LogFeedLimits {
  /** Pause between two looks at a workload whose host does not report changes, ms. */
  readonly pollMs: number;
  /** Longest such pause, ms, where no host answers: before a placement, or while a host is away. */
  readonly maxPollMs: number;
  /** How long a host is asked to hold a request, ms. */
  readonly followMs: number;
  /** Lines that follow each other faster than this are fetched together, ms. */
  readonly gatherMs: number;
  /** Longest time between two looks, ms: a host that has lost only Temporal would report no change. */
  readonly lookEveryMs: number;
  /** The same for a workload that was moved, ms: an earlier host may still send lines from its spool. */
  readonly movedLookEveryMs: number;
  /** Lines of one answer of a host. */
  readonly pageSize: number;
}

export interface LocatedWorkload {
  readonly place: LogPlace;
  readonly stage: Stage;
  /** Whether its workflow is open: it shows its final stage before it writes its last lines. */
  readonly isOpen: boolean;
}

export interface LogFeedOptions extends FreshHostOptions {
  readonly locate: (workloadId: string) => Promise<LocatedWorkload>;
  readonly follow: FollowHostLogs;
  readonly limits: LogFeedLimits;
  /** Receives the number of requests that wait at hosts now. */
  readonly onHeld: (held: number) => void;
}

export interface Look extends LocatedWorkload {
  /** Number of this look within its feed. */
  readonly number: number;
}

/** How far a reader has read. */
export interface FeedPosition {
  /** Number of the look whose log the reader has read completely. */
  readonly look: number;
  /** Epoch that the host writes; absent: the host has written nothing yet. */
  readonly epoch?: number;
  /** Number of the last line of the host that the reader has; -1: none. */
  readonly after: number;
}

export type FeedNews =
  | { readonly kind: 'lines'; readonly lines: readonly NumberedLogEntry[] }
  /** Something has, or may have, happened: the reader reads the log again from there. */
  | { readonly kind: 'look'; readonly look: Look }
  /** The feed no longer holds lines that the reader lacks: the reader has to read them as a page. */
  | { readonly kind: 'gap' }
  /** Nothing happened during the wait. */
  | { readonly kind: 'quiet' };

export interface LogFeed {
  /** @throws what `locate` throws */
  look(): Promise<Look>;
  /** Waits for what follows a position. A slow reader does not delay others. @throws what `locate` throws */
  next(position: FeedPosition, waitMs: number, signal: AbortSignal): Promise<FeedNews>;
  /** Removes the reader; the feed ends with its last reader. */
  leave(): void;
}

export interface LogFeeds {
  join(workloadId: string): LogFeed;
}

/** Lines in memory for readers that are busy writing. */
const RECENT = { maxLines: 1000, maxUnits: 128 * 1024 };

/** Starts after every possible line: asks for the mark only. */
const NO_LINES = { after: Number.MAX_SAFE_INTEGER, limit: 1, waitMs: 0 };

/** @returns the feeds of one gateway: one for each workload that has readers. */
export function createLogFeeds(options: LogFeedOptions): LogFeeds {
  const feeds = new Map<string, SharedFeed>();
  let held = 0;
  const onHeld = (change: 1 | -1): void => {
    held += change;
    options.onHeld(held);
  };
  return {
    join(workloadId) {
      const known = feeds.get(workloadId);
      const onOver = () => {
        if (feeds.get(workloadId) === feed) feeds.delete(workloadId);
      };
      const feed = known ?? new SharedFeed(workloadId, { ...options, onHeld, onOver });
      feeds.set(workloadId, feed);
      return feed.join();
    },
  };
}

interface SharedFeedOptions extends Omit<LogFeedOptions, 'onHeld'> {
  readonly onHeld: (change: 1 | -1) => void;
  /** The feed serves no further reader. */
  readonly onOver: () => void;
}

interface Waiter {
  readonly position: FeedPosition;
  readonly tell: (news: FeedNews) => void;
  readonly fail: (error: unknown) => void;
}

/** A host and its mark, known before the last look: a later change shows as another mark. */
interface Marked {
  readonly host: HostEntry;
  readonly mark: string;
}

class SharedFeed {
  private readonly workloadId: string;
  private readonly options: SharedFeedOptions;
  private readonly recent = createRecentLines(RECENT);
  private readonly firstLook = Promise.withResolvers<Look>();
  private readonly gone = new AbortController();
  private readonly waiters = new Set<Waiter>();
  private arrival = Promise.withResolvers<void>();
  private readers = 0;
  private last: Look | undefined;
  private failure: { readonly error: unknown } | undefined;
  private marked: Marked | undefined;
  /** Look whose lines `recent` holds, and their epoch. */
  private followed: { readonly look: number; readonly epoch: number | undefined } | undefined;
  private hostAnswers = false;
  private unanswered = 0;

  constructor(workloadId: string, options: SharedFeedOptions) {
    this.workloadId = workloadId;
    this.options = options;
    // Readers get this error; without readers it does not matter.
    this.firstLook.promise.catch(() => undefined);
    void this.run();
  }

  join(): LogFeed {
    this.readers += 1;
    let isIn = true;
    return {
      look: async () => this.last ?? this.firstLook.promise,
      next: (position, waitMs, signal) => this.next(position, waitMs, signal),
      leave: () => {
        if (isIn) this.readers -= 1;
        isIn = false;
        if (this.readers === 0) this.end();
      },
    };
  }

  private async next(position: FeedPosition, waitMs: number, signal: AbortSignal): Promise<FeedNews> {
    if (this.failure !== undefined) throw this.failure.error;
    const known = signal.aborted ? ({ kind: 'quiet' } as const) : this.newsAfter(position);
    if (known !== undefined) return known;
    const { promise, resolve, reject } = Promise.withResolvers<FeedNews>();
    const waiter = { position, tell: resolve, fail: reject };
    const quiet = () => resolve({ kind: 'quiet' });
    const timer = setTimeout(quiet, waitMs);
    signal.addEventListener('abort', quiet, { once: true });
    this.waiters.add(waiter);
    this.arrival.resolve();
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', quiet);
      this.waiters.delete(waiter);
    }
  }

  /** @returns undefined where there is nothing new yet */
  private newsAfter({ look, epoch, after }: FeedPosition): FeedNews | undefined {
    if (this.last !== undefined && this.last.number > look) return { kind: 'look', look: this.last };
    if (this.followed?.look !== look) return undefined;
    const isSame = epoch === undefined || this.followed.epoch === undefined || epoch === this.followed.epoch;
    const lines = isSame ? this.recent.after(after) : undefined;
    if (lines === undefined) return { kind: 'gap' };
    return lines.length === 0 ? undefined : { kind: 'lines', lines };
  }

  private tellWaiters(): void {
    for (const waiter of this.waiters) {
      const news = this.newsAfter(waiter.position);
      if (news === undefined) continue;
      // Removed at once, even before the waiting code continues.
      this.waiters.delete(waiter);
      waiter.tell(news);
    }
  }

  private async run(): Promise<void> {
    try {
      while (!this.gone.signal.aborted) {
        await this.takeLook();
        if (this.marked === undefined) await this.pause();
        else await this.follow(this.marked);
      }
    } catch (error) {
      this.failure = { error };
      this.firstLook.reject(error);
      for (const waiter of this.waiters) waiter.fail(error);
      this.end();
    }
  }

  private end(): void {
    this.gone.abort();
    this.arrival.resolve();
    this.options.onOver();
  }

  /** Looks again after a mark has become known: only a later look can show what happened before the mark. */
  private async takeLook(): Promise<void> {
    for (;;) {
      const located = await this.options.locate(this.workloadId);
      const { hostId } = located.place;
      const host = located.isOpen && hostId !== undefined ? await freshHost(this.options, hostId) : undefined;
      if (host === undefined) this.marked = undefined;
      else if (this.marked?.host.hostId !== host.hostId || this.marked.host.url !== host.url) {
        this.marked = await this.markOf(host);
        if (this.marked !== undefined) continue;
      }
      this.hostAnswers = host !== undefined && this.hostAnswers;
      if (this.hostAnswers || located.stage !== this.last?.stage) this.unanswered = 0;
      this.last = { ...located, number: (this.last?.number ?? 0) + 1 };
      this.firstLook.resolve(this.last);
      this.tellWaiters();
      return;
    }
  }

  private async markOf(host: HostEntry): Promise<Marked | undefined> {
    const answer = await this.ask(host, NO_LINES);
    return answer?.mark === undefined ? undefined : { host, mark: answer.mark };
  }

  /** Passes lines on until something else has happened, or a look is due. */
  private async follow({ host, mark }: Marked): Promise<void> {
    const { limits } = this.options;
    const start = await this.waiter();
    if (start === undefined || this.last === undefined) return;
    let { epoch, after } = start.position;
    this.recent.restart(after + 1);
    const isMoved = Math.max(epoch ?? 0, this.last.place.epoch ?? 0) > 1;
    const lookAt = performance.now() + (isMoved ? limits.movedLookEveryMs : limits.lookEveryMs);
    while ((await this.waiter()) !== undefined) {
      this.followed = { look: this.last.number, epoch };
      const waitMs = Math.ceil(Math.min(limits.followMs, lookAt - performance.now()));
      if (waitMs <= 0) return;
      const query = { ...defined({ epoch }), ...(after < 0 ? {} : { after }) };
      const answer = await this.held(host, { ...query, mark, waitMs, limit: limits.pageSize });
      if (answer?.mark !== mark) {
        this.marked = answer?.mark === undefined ? undefined : { host, mark: answer.mark };
        // A host that did not answer is not asked again at once.
        return answer === undefined ? this.pause() : undefined;
      }
      if (answer.entries.length === 0) continue;
      ({ epoch } = answer);
      this.followed = { look: this.last.number, epoch };
      this.recent.push(answer.entries);
      after = this.recent.next - 1;
      this.tellWaiters();
      if (!answer.more) await this.sleep(limits.gatherMs);
    }
  }

  private async held(host: HostEntry, query: Parameters<FollowHostLogs>[2]): Promise<HostFollowAnswer | undefined> {
    this.options.onHeld(1);
    try {
      return await this.ask(host, query);
    } finally {
      this.options.onHeld(-1);
    }
  }

  /** @returns undefined where the host does not answer, or answers for another host */
  private async ask(host: HostEntry, query: Parameters<FollowHostLogs>[2]): Promise<HostFollowAnswer | undefined> {
    this.hostAnswers = false;
    try {
      const answer = await this.options.follow(host, this.workloadId, query, this.gone.signal);
      const isOwn = answer.entries.every(({ epoch, writer }) => epoch === answer.epoch && writer === host.hostId);
      this.hostAnswers = isOwn && answer.writer === host.hostId;
      return this.hostAnswers ? answer : undefined;
    } catch (error) {
      if (isKilnError(error, 'HOST_LOST')) return undefined;
      throw error;
    }
  }

  /** @returns a reader that has read everything else, once there is one; undefined where the feed has ended */
  private async waiter(): Promise<Waiter | undefined> {
    for (;;) {
      if (this.gone.signal.aborted) return undefined;
      for (const waiter of this.waiters) return waiter;
      this.arrival = Promise.withResolvers();
      await this.arrival.promise;
    }
  }

  private pause(): Promise<void> {
    const { pollMs, maxPollMs } = this.options.limits;
    if (this.hostAnswers) return this.sleep(pollMs);
    this.unanswered += 1;
    return this.sleep(backoffMs(this.unanswered, pollMs, maxPollMs));
  }

  private async sleep(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.gone.signal }).catch(() => undefined);
  }
}
