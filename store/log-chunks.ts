/** Log chunks: immutable objects of JSON lines, `logs/<workloadId>/<epoch>-<writer>/<first>.jsonl`. */
import { numberedLogEntrySchema } from '../contracts/workload-documents.ts';
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
export async function readLogEntries(
  store: ObjectStore,
  ref: LogWriterRef,
  options: { after: number; limit: number },
): Promise<NumberedLogEntry[]> {
  const chunks = await listChunks(store, ref);
  // A chunk may begin before the first wanted entry and still hold it.
  const begin = Math.max(
    0,
    chunks.findLastIndex((chunk) => chunk.first <= options.after + 1),
  );
  const entries = new Map<number, NumberedLogEntry>();
  for (const chunk of chunks.slice(begin)) {
    if (entries.size >= options.limit) break;
    for (const entry of await readChunk(store, ref, chunk.key))
      if (entry.n > options.after) entries.set(entry.n, entry);
  }
  return [...entries.values()].sort((a, b) => a.n - b.n).slice(0, options.limit);
}

/** @returns the last `limit` entries of one writer, and whether there are earlier ones. */
export async function tailLogEntries(
  store: ObjectStore,
  ref: LogWriterRef,
  limit: number,
): Promise<{ entries: NumberedLogEntry[]; truncated: boolean }> {
  const chunks = await listChunks(store, ref);
  const entries = new Map<number, NumberedLogEntry>();
  let unread = chunks.length;
  while (unread > 0 && entries.size < limit) {
    unread -= 1;
    const chunk = chunks[unread];
    if (chunk === undefined) break;
    for (const entry of await readChunk(store, ref, chunk.key)) entries.set(entry.n, entry);
  }
  const sorted = [...entries.values()].sort((a, b) => a.n - b.n);
  return { entries: sorted.slice(-limit), truncated: unread > 0 || sorted.length > limit };
}

async function listChunks(store: ObjectStore, ref: LogWriterRef): Promise<{ key: string; first: number }[]> {
  const chunks: { key: string; first: number }[] = [];
  for await (const { key } of store.listAll(`${storeKeys.logs(ref.workloadId)}${ref.epoch}-${ref.writer}/`)) {
    const match = /\/(\d{1,15})\.jsonl$/.exec(key);
    if (match !== null) chunks.push({ key, first: Number(match[1]) });
  }
  return chunks.sort((a, b) => a.first - b.first);
}

async function readChunk(store: ObjectStore, ref: LogWriterRef, key: string): Promise<NumberedLogEntry[]> {
  const text = (await store.readBlob(key, MAX_CHUNK_BYTES)).toString('utf8');
  return parseLogLines(text).filter((entry) => entry.epoch === ref.epoch && entry.writer === ref.writer);
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
