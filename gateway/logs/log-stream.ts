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
  /** Pause before lines are looked for again that are nowhere to be had just now. */
  readonly pollMs: number;
  /** A comment is sent after so long without a line, so that nothing in between closes the connection. */
  readonly keepAliveMs: number;
  /** A reader whose buffers stay full for so long is cut off. */
  readonly slowReaderMs: number;
  /** How long a workload that is over waits for lines that its host has and does not hand out just now. */
  readonly incompleteMs: number;
  /** Lines of one page. */
  readonly pageSize: number;
}

/** Events are written together up to so much: one write for each costs more than the event. */
const WRITE_UNITS = 32 * 1024;

export interface LogStreamOptions {
  readonly reader: LogReader;
  /** Where the workload is, and what its host says next. */
  readonly feed: LogFeed;
  readonly positions: LogPositions;
  readonly filter: LogFilter;
  readonly limits: LogStreamLimits;
  /** Aborted when the reader has gone or the gateway ends. */
  readonly signal: AbortSignal;
}

/**
 * Writes the log until the workload is over and every line was sent, or the signal is aborted.
 * @throws what the feed and the reader throw; the caller closes the connection, and the reader goes on by its last id
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

  /** Reads the log to its end after each look of the feed, and in between takes what the feed hands on. */
  async run(): Promise<void> {
    const { reader, feed, limits, filter, signal } = this.options;
    const isOver = endOfLog(limits);
    let look = await feed.look();
    while (!signal.aborted) {
      const page = await reader.page(look.place, { positions: this.positions, limit: limits.pageSize, filter });
      await this.sendLines(page.entries);
      // Lines that the filter has left out are passed by as well.
      this.positions = page.positions;
      if (page.more) continue;
      if (isOver(look, page)) {
        await this.send(`event: end\ndata: ${JSON.stringify({ stage: look.stage })}\n\n`);
        return;
      }
      look = await this.handOn(look, page);
    }
  }

  /** Hands lines of the feed on for as long as nothing else has to be read. @returns the look to read on from */
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

  /** Writes events; waits for a reader that is slow, for so long as it is allowed to be. */
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

/** @returns what tells of each look in turn whether nothing can follow it any more. */
function endOfLog({ incompleteMs }: LogStreamLimits): (look: Look, page: ReadLogPage) => boolean {
  let incompleteSince: number | undefined;
  return ({ stage, isOpen }, { entries, incomplete }) => {
    if (entries.length > 0 || !isFinal(stage) || isOpen) return false;
    if (incomplete === undefined) return true;
    // A host that is starting again has its lines back in a moment; one that is gone for good must not hold a reader.
    incompleteSince ??= Date.now();
    return Date.now() - incompleteSince >= incompleteMs;
  };
}

function eventOf({ timestamp, stage, message, level }: NumberedLogEntry, positions: LogPositions): string {
  const data = JSON.stringify({ timestamp, stage, message, level });
  return `id: ${encodeLogCursor(positions)}\nevent: log\ndata: ${data}\n\n`;
}
