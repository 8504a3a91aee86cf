/**
 * The files of one log spool. A part is appended to while it is open, then sealed by a rename, and never changes again:
 * what is shipped under a name has the same bytes however often it is shipped.
 */

import { open, readdir, readFile, rename, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { ownerLogEntrySchema, parseLogLine } from '../../contracts/store/workload-documents.ts';
import type { NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import type { LogStage } from '../../domain/logs/log-stage.ts';
import { syncDirectory } from '../../linux/sync-directory.ts';
import { writeAll } from '../../linux/write-all.ts';

export interface LogPart {
  /** Number of its first entry. */
  readonly first: number;
  /** One more than the number of its last entry that is safe on disk. */
  readonly next: number;
  /** Bytes that are safe on disk. */
  readonly bytes: number;
  readonly sealed: boolean;
  /** Highest source offset among its entries; 0 where none has one. */
  readonly sourceOffset: number;
}

/**
 * Fields of a spool's line beside the entry: how much of the output it came from is in the log with it, and
 * whether it is the last line of one append.
 */
const spooledSchema = ownerLogEntrySchema.extend({
  sourceOffset: z.int().min(0).exactOptional(),
  end: z.literal(true).exactOptional(),
});
export type SpooledEntry = z.infer<typeof spooledSchema>;

const PART_NAME = /^(\d{10})\.(open|sealed)\.jsonl$/;

export function partPath(directory: string, part: Pick<LogPart, 'first' | 'sealed'>): string {
  return join(directory, `${String(part.first).padStart(10, '0')}.${part.sealed ? 'sealed' : 'open'}.jsonl`);
}

/**
 * Finds the parts of a spool in the order of their numbers. Cuts off all lines of an append that a crash interrupted:
 * they were never reported as safe, and their source still has them.
 */
export async function findParts(directory: string): Promise<LogPart[]> {
  const names = (await readdir(directory)).filter((name) => PART_NAME.test(name)).sort();
  const parts: LogPart[] = [];
  for (const name of names) {
    const [, first = '', kind] = PART_NAME.exec(name) ?? [];
    const part = await measure(join(directory, name), Number(first), kind === 'sealed');
    if (part === undefined) await rm(join(directory, name), { force: true });
    else parts.push(part);
  }
  return parts;
}

/** @returns undefined for a part without a single whole append */
async function measure(path: string, first: number, sealed: boolean): Promise<LogPart | undefined> {
  const data = await readFile(path);
  const whole = { next: first, bytes: 0, sourceOffset: 0 };
  let { next, sourceOffset } = whole;
  for (let read = 0; ; ) {
    const newline = data.indexOf(0x0a, read);
    const entry = newline < 0 ? undefined : parseLogLine(data.toString('utf8', read, newline), spooledSchema);
    if (entry?.n !== next) break;
    sourceOffset = Math.max(sourceOffset, entry.sourceOffset ?? 0);
    read = newline + 1;
    next++;
    if (entry.end) Object.assign(whole, { next, bytes: read, sourceOffset });
  }
  if (whole.bytes < data.length) await truncate(path, whole.bytes);
  return whole.next === first ? undefined : { ...whole, first, sealed };
}

/**
 * Appends lines, at least one, and makes them safe: all of them or, after a crash, none. First cuts off whatever an
 * earlier failed append has left.
 */
export async function appendLines(directory: string, part: LogPart, lines: readonly string[]): Promise<LogPart> {
  const data = Buffer.from(`${lines.join('\n').slice(0, -1)},"end":true}\n`);
  const path = partPath(directory, part);
  const handle = await open(path, part.bytes === 0 ? 'w' : 'r+', 0o600);
  try {
    if ((await handle.stat()).size !== part.bytes) await handle.truncate(part.bytes);
    await writeAll(handle, data, part.bytes);
    await handle.datasync();
  } finally {
    await handle.close();
  }
  if (part.bytes === 0) await syncDirectory(directory);
  return { ...part, next: part.next + lines.length, bytes: part.bytes + data.length };
}

/** Seals a part, which then never changes. */
export async function sealPart(directory: string, part: LogPart): Promise<LogPart> {
  const sealed = { ...part, sealed: true };
  const path = partPath(directory, part);
  // An append that failed half-way and was never repeated must not get into the sealed part.
  if ((await stat(path)).size !== part.bytes) await truncate(path, part.bytes);
  await rename(path, partPath(directory, sealed));
  await syncDirectory(directory);
  return sealed;
}

/** @returns entries of a part from number `from` on, at most `limit`, only what is safe on disk */
export async function readPart(
  directory: string,
  part: LogPart,
  from: number,
  limit: number,
): Promise<NumberedLogEntry<LogStage>[]> {
  const data = (await readFile(partPath(directory, part))).subarray(0, part.bytes);
  const lines = data.toString('utf8').split('\n');
  const start = Math.max(0, from - part.first);
  return lines
    .slice(start, Math.min(start + limit, part.next - part.first))
    .flatMap((line) => parseLogLine(line, ownerLogEntrySchema) ?? []);
}
