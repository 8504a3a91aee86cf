/** Log chunks: immutable objects of JSON lines, `logs/<workloadId>/<epoch>-<writer>/<first>.jsonl`. */
import { numberedLogEntrySchema } from '../contracts/workload-documents.ts';
import { isKilnError } from '../domain/failures.ts';
import type { NumberedLogEntry } from '../domain/log-entry.ts';
import { storeKeys } from '../domain/names.ts';
import type { ObjectStore } from './object-store.ts';

export interface LogWriterRef {
  readonly workloadId: string;
  readonly epoch: number;
  readonly writer: string;
}

/** Largest chunk that is read, bytes. */
export const MAX_CHUNK_BYTES = 8 * 1024 * 1024;

/** No chunk that is read has more entries: as JSON none is shorter than 100 bytes. */
const MAX_CHUNK_ENTRIES = Math.floor(MAX_CHUNK_BYTES / 100);

/** Chunks that are named by one listing: a page of a log is in one or two of them, however long the log is. */
const CHUNKS_AT_ONCE = 100;

/** Text of chunks that is kept parsed, bytes: several pages in a row come out of one chunk. */
const CACHE_BYTES = 8 * 1024 * 1024;

export interface LogChunks {
  /** Everybody who has written chunks of a workload. */
  writers(workloadId: string): Promise<LogWriterRef[]>;
  /** Up to `limit` entries of one writer with `n` above `after` (-1: from the first), in the order of `n`. */
  read(ref: LogWriterRef, options: { after: number; limit: number }): Promise<NumberedLogEntry[]>;
  /** The last `limit` entries of one writer, and whether there are earlier ones. */
  tail(ref: LogWriterRef, limit: number): Promise<{ entries: NumberedLogEntry[]; truncated: boolean }>;
}

/** @returns a reader of chunks that remembers the last few: they never change. Every method @throws STORE_UNAVAILABLE */
export function createLogChunks(store: ObjectStore, cacheBytes = CACHE_BYTES): LogChunks {
  const parsed = new Map<string, ParsedChunk>();
  let bytes = 0;
  const keep = (key: string, chunk: ParsedChunk): void => {
    parsed.set(key, chunk);
    bytes += chunk.bytes;
    for (const [oldest, { bytes: freed }] of parsed) {
      if (bytes <= cacheBytes) return;
      parsed.delete(oldest);
      bytes -= freed;
    }
  };
  const readChunk: ReadChunk = async (ref, key) => {
    const known = parsed.get(key);
    if (known !== undefined) {
      // Used last, dropped last.
      parsed.delete(key);
      parsed.set(key, known);
      return known.entries;
    }
    const found = await fetchChunk(store, ref, key);
    if (found !== undefined && !parsed.has(key)) keep(key, found);
    return found?.entries ?? [];
  };
  return {
    writers: (workloadId) => listLogWriters(store, workloadId),
    read: (ref, options) => readEntries(store, readChunk, ref, options),
    tail: (ref, limit) => readLast(store, readChunk, ref, limit),
  };
}

interface ParsedChunk {
  readonly entries: readonly NumberedLogEntry[];
  /** Of its text. */
  readonly bytes: number;
}

type ReadChunk = (ref: LogWriterRef, key: string) => Promise<readonly NumberedLogEntry[]>;

/** @returns everybody who has written chunks of a workload. */
export async function listLogWriters(store: ObjectStore, workloadId: string): Promise<LogWriterRef[]> {
  const prefix = storeKeys.logs(workloadId);
  const writers: LogWriterRef[] = [];
  let after: string | undefined;
  do {
    const page = await store.list(prefix, { delimiter: '/', ...(after === undefined ? {} : { after }) });
    for (const folder of page.folders) {
      const match = /^(\d{1,6})-([a-z0-9-]{1,64})\/$/.exec(folder.slice(prefix.length));
      if (match?.[1] !== undefined && match[2] !== undefined) {
        writers.push({ workloadId, epoch: Number(match[1]), writer: match[2] });
      }
    }
    after = page.next;
  } while (after !== undefined);
  return writers;
}

/** @returns up to `limit` entries of one writer with `n` above `after` (-1: from the first), in the order of `n`. */
export function readLogEntries(
  store: ObjectStore,
  ref: LogWriterRef,
  options: { after: number; limit: number },
): Promise<NumberedLogEntry[]> {
  return createLogChunks(store).read(ref, options);
}

async function readEntries(
  store: ObjectStore,
  readChunk: ReadChunk,
  ref: LogWriterRef,
  options: { after: number; limit: number },
): Promise<NumberedLogEntry[]> {
  const entries = new Map<number, NumberedLogEntry>();
  for await (const chunk of chunksFrom(store, ref, options.after + 1)) {
    for (const entry of await readChunk(ref, chunk.key)) if (entry.n > options.after) entries.set(entry.n, entry);
    if (entries.size >= options.limit) break;
  }
  return [...entries.values()].sort((a, b) => a.n - b.n).slice(0, options.limit);
}

/** @returns the last `limit` entries of one writer, and whether there are earlier ones. */
export function tailLogEntries(
  store: ObjectStore,
  ref: LogWriterRef,
  limit: number,
): Promise<{ entries: NumberedLogEntry[]; truncated: boolean }> {
  return createLogChunks(store).tail(ref, limit);
}

async function readLast(
  store: ObjectStore,
  readChunk: ReadChunk,
  ref: LogWriterRef,
  limit: number,
): Promise<{ entries: NumberedLogEntry[]; truncated: boolean }> {
  const chunks: ListedChunk[] = [];
  for await (const chunk of listChunks(store, ref)) chunks.push(chunk);
  const entries = new Map<number, NumberedLogEntry>();
  let unread = chunks.length;
  while (unread > 0 && entries.size < limit) {
    unread -= 1;
    const chunk = chunks[unread];
    if (chunk === undefined) break;
    for (const entry of await readChunk(ref, chunk.key)) entries.set(entry.n, entry);
  }
  const sorted = [...entries.values()].sort((a, b) => a.n - b.n);
  return { entries: sorted.slice(-limit), truncated: unread > 0 || sorted.length > limit };
}

interface ListedChunk {
  readonly key: string;
  /** Number of its first entry. */
  readonly first: number;
}

/** Names the chunk that may hold entry `n`, and those behind it, in their order; no more of them than are taken. */
async function* chunksFrom(store: ObjectStore, ref: LogWriterRef, n: number): AsyncIterable<ListedChunk> {
  let before: ListedChunk | undefined;
  const options = { limit: CHUNKS_AT_ONCE, ...afterChunk(ref, n - MAX_CHUNK_ENTRIES) };
  for await (const chunk of listChunks(store, ref, options)) {
    if (chunk.first > n) {
      if (before !== undefined) yield before;
      before = undefined;
      yield chunk;
    } else before = chunk;
  }
  if (before !== undefined) yield before;
}

function afterChunk({ workloadId, epoch, writer }: LogWriterRef, first: number): { after?: string } {
  return first < 0 ? {} : { after: storeKeys.logChunk(workloadId, epoch, writer, first) };
}

async function* listChunks(
  store: ObjectStore,
  { workloadId, epoch, writer }: LogWriterRef,
  options: { after?: string; limit?: number } = {},
): AsyncIterable<ListedChunk> {
  for await (const { key } of store.listAll(storeKeys.logChunks(workloadId, epoch, writer), options)) {
    const match = /\/(\d{1,15})\.jsonl$/.exec(key);
    if (match !== null) yield { key, first: Number(match[1]) };
  }
}

/** @returns undefined for a chunk that has been removed since it was listed */
async function fetchChunk(store: ObjectStore, ref: LogWriterRef, key: string): Promise<ParsedChunk | undefined> {
  try {
    const data = await store.readBlob(key, MAX_CHUNK_BYTES);
    const entries = parseLogLines(data.toString('utf8'));
    return {
      entries: entries.filter((entry) => entry.epoch === ref.epoch && entry.writer === ref.writer),
      bytes: data.length,
    };
  } catch (error) {
    if (isKilnError(error, 'NOT_FOUND')) return undefined;
    throw error;
  }
}

/** @returns the entries of a chunk's text. A line that is none (cut, damaged) is left out: the others stay readable. */
export function parseLogLines(text: string): NumberedLogEntry[] {
  return text.split('\n').flatMap((line) => {
    const parsed = numberedLogEntrySchema.safeParse(jsonOrUndefined(line));
    return parsed.success ? [parsed.data] : [];
  });
}

function jsonOrUndefined(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
