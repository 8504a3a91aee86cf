/** One log of many writers: chunks in the store, and lines that the host has not shipped yet. */
import { advance, type LogPositions, writerKey } from '../../contracts/api/log-page.ts';
import type { HostEntry } from '../../domain/capacity/host-entry.ts';
import { defined } from '../../domain/defined.ts';
import { isKilnError } from '../../domain/failures.ts';
import { compareLogEntries, isWanted, type LogFilter, type NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import { mergeQueues } from '../../domain/logs/merge-queues.ts';
import type { LogWriterRef } from '../../store/logs/log-chunks.ts';
import { type FreshHostOptions, freshHost } from '../hosts/fresh-host.ts';
import type { FetchHostLogs, HostLogsAnswer, HostLogsQuery } from './host-logs.ts';

export interface LogSources extends FreshHostOptions {
  /** Chunks in the store. */
  readonly chunks: {
    writers(workloadId: string): Promise<LogWriterRef[]>;
    read(ref: LogWriterRef, options: { after: number; limit: number }): Promise<NumberedLogEntry[]>;
    tail(ref: LogWriterRef, limit: number): Promise<{ entries: NumberedLogEntry[]; truncated: boolean }>;
  };
  readonly fetchHostLogs: FetchHostLogs;
}

/** Where a workload's newest lines are. */
export interface LogPlace {
  readonly workloadId: string;
  /** Absent: not placed yet. */
  readonly hostId?: string;
  /** Epoch of the placement, where it is known. */
  readonly epoch?: number;
  /** Lines without a writer: they are derived from the state of the workload. */
  readonly derived?: readonly NumberedLogEntry[];
}

export interface ReadLogPage {
  readonly entries: readonly NumberedLogEntry[];
  readonly positions: LogPositions;
  /** Whether to read on at once. With a filter, also where this page found nothing. */
  readonly more: boolean;
  readonly incomplete?: string;
  /** Epoch that the workload's host has answered for. */
  readonly hostEpoch?: number;
}

export interface LogPageOptions {
  readonly positions: LogPositions;
  readonly limit: number;
  readonly filter?: LogFilter;
}

export interface LogReader {
  /**
   * Entries after the positions, oldest first, each once, only those that the filter selects. A page reads a bounded
   * number of lines: it may have no entries and still `more`; then its positions have moved forward.
   * @throws STORE_UNAVAILABLE
   */
  page(place: LogPlace, options: LogPageOptions): Promise<ReadLogPage>;
  /** The last entries. @throws STORE_UNAVAILABLE */
  tail(place: LogPlace, limit: number): Promise<{ entries: NumberedLogEntry[]; truncated: boolean }>;
}

/** Most answers of a host that are read for one tail. */
const MAX_TAIL_PAGES = 20;
const HOST_PAGE = 1000;
/** Lines read for one filtered page: per step, and in all. */
const SCAN_AT_ONCE = 1000;
const MAX_SCAN = 20_000;

export function createLogReader(sources: LogSources): LogReader {
  return {
    page: (place, { filter = {}, ...options }) =>
      filter.stage === undefined && filter.level === undefined
        ? readPage(sources, place, options)
        : readFiltered(sources, place, { ...options, filter }),
    tail: (place, limit) => readTail(sources, place, limit),
  };
}

async function readFiltered(
  sources: LogSources,
  place: LogPlace,
  { positions: from, limit, filter }: Required<LogPageOptions>,
): Promise<ReadLogPage> {
  const entries: NumberedLogEntry[] = [];
  let positions = from;
  for (let scanned = 0; ; ) {
    const page = await readPage(sources, place, { positions, limit: SCAN_AT_ONCE });
    for (const entry of page.entries) {
      if (isWanted(entry, filter)) {
        if (entries.length >= limit) return { ...page, entries, positions, more: true };
        entries.push(entry);
      }
      positions = advance(positions, entry);
    }
    scanned += page.entries.length;
    if (!page.more || scanned >= MAX_SCAN) return { ...page, entries, positions };
  }
}

async function readPage(
  sources: LogSources,
  place: LogPlace,
  { positions, limit }: Pick<LogPageOptions, 'positions' | 'limit'>,
): Promise<ReadLogPage> {
  const wanted = limit + 1;
  const queues = new Map<string, NumberedLogEntry[]>();
  const add = (key: string, entries: readonly NumberedLogEntry[]) => {
    const merged = new Map([...(queues.get(key) ?? []), ...entries].map((entry) => [entry.n, entry]));
    queues.set(key, [...merged.values()].sort((a, b) => a.n - b.n).slice(0, wanted));
  };
  const addStored = async (ref: LogWriterRef) => {
    const after = positions[writerKey(ref)] ?? -1;
    add(writerKey(ref), await sources.chunks.read(ref, { after, limit: wanted }));
  };
  for (const entry of place.derived ?? []) {
    if (entry.n > (positions[writerKey(entry)] ?? -1)) add(writerKey(entry), [entry]);
  }
  for (const ref of await sources.chunks.writers(place.workloadId)) await addStored(ref);
  const live = await askForNewest(sources, place, { positions, wanted, stored: queues });
  if (live.reply !== undefined) {
    const { epoch, writer, entries } = live.reply;
    const next = (queues.get(writerKey(live.reply))?.at(-1)?.n ?? positions[writerKey(live.reply)] ?? -1) + 1;
    // Lines that the host has shipped and dropped since the store was read are in the store now.
    if (entries[0]?.n !== next) await addStored({ workloadId: place.workloadId, epoch, writer });
    add(writerKey(live.reply), entries);
  }
  const cut = live.reply?.more === true ? writerKey(live.reply) : undefined;
  const merged = mergeQueues(
    [...queues].map(([key, entries]) => ({ entries, goesOn: key === cut })),
    limit,
  );
  return {
    entries: merged.entries,
    positions: merged.entries.reduce(advance, positions),
    more: merged.left,
    ...(live.reply === undefined ? {} : { hostEpoch: live.reply.epoch }),
    ...defined({ incomplete: live.incomplete }),
  };
}

/** Asks the host, unless the store alone can fill the page with that host's lines. */
async function askForNewest(
  sources: LogSources,
  place: LogPlace,
  page: {
    positions: LogPositions;
    wanted: number;
    stored: ReadonlyMap<string, readonly NumberedLogEntry[]>;
  },
): Promise<{ reply?: HostLogsAnswer; incomplete?: string }> {
  const { hostId, epoch } = place;
  if (hostId !== undefined && epoch !== undefined) {
    const stored = page.stored.get(writerKey({ epoch, writer: hostId })) ?? [];
    if (stored.length >= page.wanted) return {};
    const last = stored.at(-1);
    const positions = last === undefined ? page.positions : advance(page.positions, last);
    return askHost(sources, place, positions, page.wanted - stored.length);
  }
  return askHost(sources, place, page.positions, page.wanted);
}

async function readTail(
  sources: LogSources,
  place: LogPlace,
  limit: number,
): Promise<{ entries: NumberedLogEntry[]; truncated: boolean }> {
  const found = new Map<string, NumberedLogEntry>();
  const last: Record<string, number> = {};
  let truncated = false;
  const add = (entry: NumberedLogEntry) => {
    const key = writerKey(entry);
    found.set(`${key}-${entry.n}`, entry);
    last[key] = Math.max(last[key] ?? -1, entry.n);
  };
  for (const ref of await sources.chunks.writers(place.workloadId)) {
    const part = await sources.chunks.tail(ref, limit);
    part.entries.forEach(add);
    truncated ||= part.truncated;
  }
  place.derived?.forEach(add);
  for (let page = 0; page < MAX_TAIL_PAGES; page++) {
    const { reply } = await askHost(sources, place, last, HOST_PAGE);
    reply?.entries.forEach(add);
    if (reply?.more !== true) break;
  }
  const sorted = [...found.values()].sort(compareLogEntries);
  return { entries: sorted.slice(-limit), truncated: truncated || sorted.length > limit };
}

async function askHost(
  sources: LogSources,
  place: LogPlace,
  positions: LogPositions,
  limit: number,
): Promise<{ reply?: HostLogsAnswer; incomplete?: string }> {
  if (place.hostId === undefined) return {};
  const host = await freshHost(sources, place.hostId);
  if (host === undefined) {
    return { incomplete: `Host ${place.hostId} was not heard of lately; lines that it has not shipped are missing.` };
  }
  try {
    const reply = await askEpoch(sources, host, place, positions, Math.min(limit, HOST_PAGE));
    // A host may only return its own lines.
    return reply === undefined || reply.writer !== host.hostId ? {} : { reply: ownEntries(reply) };
  } catch (error) {
    if (!isKilnError(error, 'HOST_LOST')) throw error;
    return { incomplete: error.message };
  }
}

async function askEpoch(
  { fetchHostLogs }: LogSources,
  host: HostEntry,
  { workloadId, epoch }: LogPlace,
  positions: LogPositions,
  limit: number,
): Promise<HostLogsAnswer | undefined> {
  const query = (of: number): HostLogsQuery => {
    const after = positions[writerKey({ epoch: of, writer: host.hostId })];
    return { epoch: of, limit, ...defined({ after }) };
  };
  if (epoch !== undefined) return fetchHostLogs(host, workloadId, query(epoch));
  // Before there is a VM only the host knows the epoch.
  const newest = await fetchHostLogs(host, workloadId, { limit });
  if (newest === undefined || query(newest.epoch).after === undefined) return newest;
  return fetchHostLogs(host, workloadId, query(newest.epoch));
}

function ownEntries(reply: HostLogsAnswer): HostLogsAnswer {
  const entries = reply.entries.filter(({ epoch, writer }) => epoch === reply.epoch && writer === reply.writer);
  // An answer without entries cannot be continued.
  return { ...reply, entries, more: reply.more && entries.length > 0 };
}
