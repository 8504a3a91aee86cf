/** Log chunks: immutable objects of JSON lines, `logs/<workloadId>/<epoch>-<writer>/<first>.jsonl`. */

import { LRUCache } from 'lru-cache';
import { numberedLogEntrySchema, parseLogLine } from '../../contracts/store/workload-documents.ts';
import { defined } from '../../domain/defined.ts';
import { isKilnError } from '../../domain/failures.ts';
import type { NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import { storeKeys } from '../../domain/names.ts';
import type { ListOptions, ObjectStore } from '../object-store.ts';

export interface LogWriterRef {
  readonly workloadId: string;
  readonly epoch: number;
  readonly writer: string;
}

/** Largest chunk that is read, bytes. */
export const MAX_CHUNK_BYTES = 8 * 1024 * 1024;

/** How far before an entry to search for its chunk; some chunks hold a single entry, some many thousands. */
const WINDOWS = [64, 256, 1024, 4096, 16_384, 65_536, Number.POSITIVE_INFINITY];

/** Chunks that one listing names: a page of a log is in few of them, however long the log is. */
const CHUNKS_AT_ONCE = 100;

/** For how many writers to remember where the last reader was: the next page begins there. */
const REMEMBERED_WRITERS = 256;

/** Bytes of chunk text that stay parsed in memory: several pages in a row come from one chunk. */
const CACHE_BYTES = 8 * 1024 * 1024;

export interface LogChunks {
  /** Everybody who has written chunks of a workload. */
  writers(workloadId: string): Promise<LogWriterRef[]>;
  /** Up to `limit` entries of one writer with `n` above `after` (-1: from the first), in the order of `n`. */
  read(ref: LogWriterRef, options: { after: number; limit: number }): Promise<NumberedLogEntry[]>;
  /** The last `limit` entries of one writer, and whether there are earlier ones. */
  tail(ref: LogWriterRef, limit: number): Promise<{ entries: NumberedLogEntry[]; truncated: boolean }>;
}

/** What the reader needs of the store. */
type ChunkStore = Pick<ObjectStore, 'list' | 'listAll' | 'readBlob'>;

/** @returns a reader of chunks that remembers the last few: they never change. Every method @throws STORE_UNAVAILABLE */
export function createLogChunks(store: ChunkStore, cacheBytes = CACHE_BYTES): LogChunks {
  const parsed = new LRUCache<string, ParsedChunk>({
    maxSize: cacheBytes,
    sizeCalculation: ({ bytes }) => Math.max(1, bytes),
  });
  const places: ReadPlaces = new LRUCache({ max: REMEMBERED_WRITERS });
  const readChunk: ReadChunk = async (ref, key) => {
    const known = parsed.get(key);
    if (known !== undefined) return known.entries;
    const found = await fetchChunk(store, ref, key);
    if (found !== undefined) parsed.set(key, found);
    return found?.entries ?? [];
  };
  return {
    writers: (workloadId) => listLogWriters(store, workloadId),
    read: (ref, options) => readEntries({ store, readChunk, places }, ref, options),
    tail: (ref, limit) => readLast(store, readChunk, ref, limit),
  };
}

interface ParsedChunk {
  readonly entries: readonly NumberedLogEntry[];
  /** Size of its text. */
  readonly bytes: number;
}

/** By folder of a writer: the chunk that was read last. */
type ReadPlaces = LRUCache<
  string,
  ListedChunk & { /** One more than the number of its last entry. */ readonly next: number }
>;

interface ChunkReader {
  readonly store: ChunkStore;
  readonly readChunk: ReadChunk;
  readonly places: ReadPlaces;
}

type ReadChunk = (ref: LogWriterRef, key: string) => Promise<readonly NumberedLogEntry[]>;

/** @returns every writer of a workload's chunks. */
export async function listLogWriters(store: ChunkStore, workloadId: string): Promise<LogWriterRef[]> {
  const prefix = storeKeys.logs(workloadId);
  const writers: LogWriterRef[] = [];
  let after: string | undefined;
  do {
    const page = await store.list(prefix, { delimiter: '/', ...defined({ after }) });
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
  store: ChunkStore,
  ref: LogWriterRef,
  options: { after: number; limit: number },
): Promise<NumberedLogEntry[]> {
  return createLogChunks(store).read(ref, options);
}

async function readEntries(
  reader: ChunkReader,
  ref: LogWriterRef,
  { after, limit }: { after: number; limit: number },
): Promise<NumberedLogEntry[]> {
  const entries = new Map<number, NumberedLogEntry>();
  for await (const chunk of chunksFrom(reader, ref, after + 1)) {
    const found = await reader.readChunk(ref, chunk.key);
    for (const entry of found) if (entry.n > after) entries.set(entry.n, entry);
    const last = found.at(-1);
    if (last !== undefined) reader.places.set(folderOf(ref), { ...chunk, next: last.n + 1 });
    if (entries.size >= limit) break;
  }
  return [...entries.values()].sort((a, b) => a.n - b.n).slice(0, limit);
}

/** @returns the last `limit` entries of one writer, and whether there are earlier ones. */
export function tailLogEntries(
  store: ChunkStore,
  ref: LogWriterRef,
  limit: number,
): Promise<{ entries: NumberedLogEntry[]; truncated: boolean }> {
  return createLogChunks(store).tail(ref, limit);
}

async function readLast(
  store: ChunkStore,
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

/** Lazily yields the name of the chunk that may hold entry `n`, then the names after it, in order. */
async function* chunksFrom({ store, places }: ChunkReader, ref: LogWriterRef, n: number): AsyncIterable<ListedChunk> {
  const place = places.get(folderOf(ref));
  if (place === undefined || n < place.first || n > place.next) {
    yield* searchedChunks(store, ref, n);
  } else {
    if (n < place.next) yield place;
    yield* listChunks(store, ref, { after: place.key, limit: CHUNKS_AT_ONCE });
  }
}

/** The last chunk that begins at or before `n`: a window that shows any chunk beginning there shows this one too. */
async function* searchedChunks(store: ChunkStore, ref: LogWriterRef, n: number): AsyncIterable<ListedChunk> {
  for (const window of WINDOWS) {
    const from = n - window;
    let found = from < 0;
    let before: ListedChunk | undefined;
    const options = { limit: CHUNKS_AT_ONCE, ...(from < 0 ? {} : { after: chunkKey(ref, from) }) };
    for await (const chunk of listChunks(store, ref, options)) {
      if (chunk.first <= n) {
        before = chunk;
        found = true;
        continue;
      }
      if (!found) break;
      if (before !== undefined) yield before;
      before = undefined;
      yield chunk;
    }
    if (before !== undefined) yield before;
    if (found) return;
  }
}

const chunkKey = ({ workloadId, epoch, writer }: LogWriterRef, first: number) =>
  storeKeys.logChunk(workloadId, epoch, writer, first);

const folderOf = ({ workloadId, epoch, writer }: LogWriterRef) => storeKeys.logChunks(workloadId, epoch, writer);

async function* listChunks(
  store: ChunkStore,
  ref: LogWriterRef,
  options: Omit<ListOptions, 'delimiter'> = {},
): AsyncIterable<ListedChunk> {
  for await (const { key } of store.listAll(folderOf(ref), options)) {
    const match = /\/(\d{1,15})\.jsonl$/.exec(key);
    if (match !== null) yield { key, first: Number(match[1]) };
  }
}

/** @returns undefined for a chunk that has been removed since it was listed */
async function fetchChunk(store: ChunkStore, ref: LogWriterRef, key: string): Promise<ParsedChunk | undefined> {
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

/** @returns the entries of a chunk's text. A cut or damaged line is left out: the others stay readable. */
export function parseLogLines(text: string): NumberedLogEntry[] {
  return text.split('\n').flatMap((line) => parseLogLine(line, numberedLogEntrySchema) ?? []);
}
