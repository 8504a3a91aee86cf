/** Pages of a workload's log, and the cursor between them. */
import { z } from 'zod';
import { LOG_LEVELS, type LogEntry, type LogFilter, type NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import { isoTimeSchema, stageSchema } from '../identifiers.ts';
import type { Same } from '../same-type.ts';
import { cursorSchema, decodeCursor, encodeCursor } from './cursor.ts';

export const logEntrySchema = z.object({
  timestamp: isoTimeSchema,
  stage: stageSchema,
  message: z.string(),
  level: z.enum(LOG_LEVELS),
});
const _entry: Same<z.infer<typeof logEntrySchema>, LogEntry> = true;

/** Query of logs: which lines to return. */
export const logFilterSchema = z.object({
  /** Only lines of this stage. */
  stage: stageSchema.exactOptional(),
  /** The lowest level to return. */
  level: z.enum(LOG_LEVELS).exactOptional(),
});
const _filter: Same<z.infer<typeof logFilterSchema>, LogFilter> = true;

export const logPageSchema = z.object({
  entries: z.array(logEntrySchema),
  /** Send it as `after` to read on; always valid, also at the end of the log. */
  cursor: cursorSchema,
  /** Whether to read on at once. With a filter, also where this page found nothing in the lines that it read. */
  more: z.boolean(),
  /** Why the newest lines may be missing for now, e.g. a host that does not answer. */
  incomplete: z.string().exactOptional(),
});
export type LogPage = z.infer<typeof logPageSchema>;

/** The last number returned of each writer, by `<epoch>-<writer>`. */
export type LogPositions = Readonly<Record<string, number>>;

/** Most writers in one cursor: control and host for each of 32 epochs. */
const MAX_WRITERS = 64;
const positionsSchema = z
  .record(z.string().regex(/^\d{1,6}-[a-z0-9-]{1,64}$/), z.int().min(0))
  .refine((positions) => Object.keys(positions).length <= MAX_WRITERS);

/** @returns the key of an entry's writer in `LogPositions`. */
export function writerKey({ epoch, writer }: { epoch: number; writer: string }): string {
  return `${epoch}-${writer}`;
}

/** @returns the positions after one more entry. */
export function advance(positions: LogPositions, entry: NumberedLogEntry): LogPositions {
  return { ...positions, [writerKey(entry)]: entry.n };
}

export function encodeLogCursor(positions: LogPositions): string {
  return encodeCursor(positions);
}

/** @throws SPEC_INVALID */
export function decodeLogCursor(cursor: string): LogPositions {
  return decodeCursor(positionsSchema, cursor);
}
