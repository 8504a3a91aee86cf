/** Server-sent events of one workload's log. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { advance, encodeLogCursor, type LogPositions } from '../../contracts/api/log-page.ts';
import type { LogFilter, NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import { isFinal, type Stage } from '../../domain/workload/stages.ts';
import type { LogPlace, LogReader, ReadLogPage } from './log-reader.ts';

export interface LogStreamLimits {
  /** Pause between two looks where nothing was new. */
  readonly pollMs: number;
  /** A comment is sent after so long without a line, so that nothing in between closes the connection. */
  readonly keepAliveMs: number;
  /** A reader whose buffers stay full for so long is cut off. */
  readonly slowReaderMs: number;
  /** How long a workload that is over waits for lines that its host has and does not hand out just now. */
  readonly incompleteMs: number;
  /** Lines of one look. */
  readonly pageSize: number;
}

/** Events are written together up to so much: one write for each costs more than the event. */
const WRITE_UNITS = 32 * 1024;

export interface LocatedWorkload {
  readonly place: LogPlace;
  readonly stage: Stage;
  /** Whether its workflow goes on: it says its final stage before it writes its last lines. */
  readonly isOpen: boolean;
}

export interface LogStreamOptions {
  readonly reader: LogReader;
  /** Where the workload is now; asked anew before a look that is `pollMs` after the last answer. */
  readonly locate: () => Promise<LocatedWorkload>;
  readonly positions: LogPositions;
  readonly filter: LogFilter;
  readonly limits: LogStreamLimits;
  /** Aborted when the reader has gone or the gateway ends. */
  readonly signal: AbortSignal;
}

/**
 * Writes the log until the workload is over and every line was sent, or the signal is aborted.
 * @throws what `locate` and the reader throw; the caller closes the connection, and the reader goes on by its last id
 */
export async function streamLog(response: ServerResponse, options: LogStreamOptions): Promise<void> {
  const { reader, limits, signal, filter } = options;
  const isOver = endOfLog(limits);
  let { positions } = options;
  let quietMs = 0;
  let located = { ...(await options.locate()), at: Date.now() };
  while (!signal.aborted) {
    if (Date.now() - located.at >= limits.pollMs) located = { ...(await options.locate()), at: Date.now() };
    const page = await reader.page(located.place, { positions, limit: limits.pageSize, filter });
    let events = '';
    for (const entry of page.entries) {
      positions = advance(positions, entry);
      events += eventOf(entry, positions);
      if (events.length < WRITE_UNITS) continue;
      await send(response, events, options);
      events = '';
    }
    if (events !== '') await send(response, events, options);
    // Lines that the filter has left out are passed by as well.
    positions = page.positions;
    if (page.entries.length > 0) quietMs = 0;
    if (page.more) continue;
    if (isOver(located, page)) {
      await send(response, `event: end\ndata: ${JSON.stringify({ stage: located.stage })}\n\n`, options);
      return;
    }
    await delay(limits.pollMs, undefined, { signal }).catch(() => undefined);
    quietMs += limits.pollMs;
    if (quietMs >= limits.keepAliveMs) {
      quietMs = 0;
      await send(response, ': still here\n\n', options);
    }
  }
}

/** @returns what tells of each look in turn whether nothing can follow it any more. */
function endOfLog({ incompleteMs }: LogStreamLimits): (located: LocatedWorkload, page: ReadLogPage) => boolean {
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

/** Writes events; waits for a reader that is slow, for so long as it is allowed to be. */
async function send(response: ServerResponse, text: string, { limits, signal }: LogStreamOptions): Promise<void> {
  if (signal.aborted || response.write(text)) return;
  const patience = AbortSignal.any([signal, AbortSignal.timeout(limits.slowReaderMs)]);
  try {
    await once(response, 'drain', { signal: patience });
  } catch {
    response.destroy();
  }
}
