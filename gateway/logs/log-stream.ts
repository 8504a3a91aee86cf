/** Server-sent events of one workload's log. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { advance, encodeLogCursor, type LogPositions, writerKey } from '../../contracts/api/log-page.ts';
import { isWanted, type LogFilter, type NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import { isFinal } from '../../domain/workload/stages.ts';
import type { FeedPosition, LogFeed, Look } from './log-feed.ts';
import type { LogReader, ReadLogPage } from './log-reader.ts';

export interface LogStreamLimits {
  /** Pause before the next try where lines are missing for the moment. */
  readonly pollMs: number;
  /** A comment is sent after this long without a line, so that no proxy closes the connection. */
  readonly keepAliveMs: number;
  /** A reader whose buffers stay full for this long is disconnected. */
  readonly slowReaderMs: number;
  /** How long the stream of a finished workload waits for lines that its host has but does not return. */
  readonly incompleteMs: number;
  /** Lines of one page. */
  readonly pageSize: number;
}

/** Events are written together up to this size: one write costs more than the event itself. */
const WRITE_UNITS = 32 * 1024;

export interface LogStreamOptions {
  readonly reader: LogReader;
  /** Where the workload is, and what its host sends next. */
  readonly feed: LogFeed;
  readonly positions: LogPositions;
  readonly filter: LogFilter;
  readonly limits: LogStreamLimits;
  /** Aborted when the reader disconnects or the gateway ends. */
  readonly signal: AbortSignal;
}

/**
 * Writes the log until the workload is over and every line was sent, or the signal is aborted.
 * @throws what the feed and the reader throw; the caller closes the connection, and the client resumes from its last id
 */
export async function streamLog(response: ServerResponse, options: LogStreamOptions): Promise<void> {
  await new LogStream(response, options).run();
}

class LogStream {
  private readonly response: ServerResponse;
  private readonly options: LogStreamOptions;
  private positions: LogPositions;
  private sentAt = performance.now();

  constructor(response: ServerResponse, options: LogStreamOptions) {
    this.response = response;
    this.options = options;
    this.positions = options.positions;
  }

  /** Reads the log completely after each look of the feed; in between, passes on the lines of the feed. */
  async run(): Promise<void> {
    const { reader, feed, limits, filter, signal } = this.options;
    const isOver = endOfLog(limits);
    let look = await feed.look();
    while (!signal.aborted) {
      const page = await reader.page(look.place, { positions: this.positions, limit: limits.pageSize, filter });
      await this.sendLines(page.entries);
      // The position also moves past lines that the filter left out.
      this.positions = page.positions;
      if (page.more) continue;
      if (isOver(look, page)) {
        await this.send(`event: end\ndata: ${JSON.stringify({ stage: look.stage })}\n\n`);
        return;
      }
      look = await this.handOn(look, page);
    }
  }

  /** Passes on lines of the feed while nothing else must be read. @returns the look to continue with */
  private async handOn(look: Look, page: ReadLogPage): Promise<Look> {
    const { feed, limits, signal } = this.options;
    while (!signal.aborted) {
      const quietMs = Math.max(0, this.sentAt + limits.keepAliveMs - performance.now());
      const news = await feed.next(this.positionAfter(look, page), quietMs, signal);
      if (news.kind === 'look') return news.look;
      if (news.kind === 'lines') await this.sendLines(news.lines);
      else if (news.kind === 'quiet') await this.send(': still here\n\n');
      else {
        if (page.entries.length === 0) await delay(limits.pollMs, undefined, { signal }).catch(() => undefined);
        return look;
      }
    }
    return look;
  }

  private positionAfter({ number, place }: Look, { hostEpoch }: ReadLogPage): FeedPosition {
    const epoch = place.epoch ?? hostEpoch;
    if (epoch === undefined || place.hostId === undefined) return { look: number, after: -1 };
    return { look: number, epoch, after: this.positions[writerKey({ epoch, writer: place.hostId })] ?? -1 };
  }

  private async sendLines(entries: readonly NumberedLogEntry[]): Promise<void> {
    let events = '';
    for (const entry of entries) {
      this.positions = advance(this.positions, entry);
      if (!isWanted(entry, this.options.filter)) continue;
      events += eventOf(entry, this.positions);
      if (events.length < WRITE_UNITS) continue;
      await this.send(events);
      events = '';
    }
    if (events !== '') await this.send(events);
  }

  /** Writes events; waits for a slow reader, up to its limit. */
  private async send(text: string): Promise<void> {
    const { limits, signal } = this.options;
    this.sentAt = performance.now();
    if (signal.aborted || this.response.write(text)) return;
    const patience = AbortSignal.any([signal, AbortSignal.timeout(limits.slowReaderMs)]);
    try {
      await once(this.response, 'drain', { signal: patience });
    } catch {
      this.response.destroy();
    }
  }
}

/** @returns a function that says, for each look in turn, whether the log has ended. */
function endOfLog({ incompleteMs }: LogStreamLimits): (look: Look, page: ReadLogPage) => boolean {
  let incompleteSince: number | undefined;
  return ({ stage, isOpen }, { entries, incomplete }) => {
    if (entries.length > 0 || !isFinal(stage) || isOpen) return false;
    if (incomplete === undefined) return true;
    // A restarting host has its lines back in a moment; a host that never comes back must not hold a reader.
    incompleteSince ??= Date.now();
    return Date.now() - incompleteSince >= incompleteMs;
  };
}

function eventOf({ timestamp, stage, message, level }: NumberedLogEntry, positions: LogPositions): string {
  const data = JSON.stringify({ timestamp, stage, message, level });
  return `id: ${encodeLogCursor(positions)}\nevent: log\ndata: ${data}\n\n`;
}
