/** The log of one workload, epoch and writer on this host's disk: numbered, readable once safe, shipped in parts. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { isFullDisk, KilnError } from '../../domain/failures.ts';
import type { LogLevel, NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import type { LogStage } from '../../domain/logs/log-stage.ts';
import { createRecentLines, type RecentLines } from '../../domain/logs/recent-lines.ts';
import { readStateFile, writeStateFile } from '../../linux/state-file.ts';
import type { ExecOutput } from '../../ports/guest-agent.ts';
import type { LogWriter } from '../../ports/logs.ts';
import { writeExecOutput } from './exec-output.ts';
import { logLines } from './output-lines.ts';
import {
  appendLines,
  findParts,
  type LogPart,
  partPath,
  readPart,
  type SpooledEntry,
  sealPart,
} from './spool-files.ts';

export interface LogSpoolLimits {
  /** A part is sealed when it is as large as this. */
  readonly partBytes: number;
  /** Limit of bytes not shipped yet, in memory and on disk together; further lines are dropped and counted. */
  readonly maxUnshippedBytes: number;
  /** Shipped parts are kept for readers up to this many bytes. */
  readonly keepShippedBytes: number;
  /** Longest time until a line is made safe without a call of `flush`, ms. */
  readonly flushMs: number;
}

export interface LogSpoolOptions extends LogSpoolLimits {
  readonly directory: string;
  readonly epoch: number;
  readonly writer: string;
  readonly now: () => number;
  /** Called when further lines are safe and can be read. */
  readonly onSafe?: () => void;
  /** Monotonic ms, to measure how long the spool was idle. Default: the monotonic clock. */
  readonly awake?: () => number;
}

/** Stores one sealed part. @throws STORE_UNAVAILABLE */
export type PartShipper = (part: { first: number; path: string }) => Promise<void>;

const shippedSchema = z.strictObject({ next: z.int().min(0), sourceOffset: z.int().min(0) });
type Shipped = z.infer<typeof shippedSchema>;

/** Limits of the newest lines in memory: readers that keep up need no disk read. */
const RECENT = { maxLines: 500, maxUnits: 64 * 1024 };

interface PendingLine {
  readonly entry: NumberedLogEntry<LogStage>;
  readonly text: string;
  readonly bytes: number;
  /** 0 where it has none. */
  readonly sourceOffset: number;
  /** Whether the offset that covers it comes with a later line: both get to the disk together, or neither. */
  readonly offsetFollows: boolean;
}

/** A log that stores in its own lines how much of a process's output it has, so that neither lags behind. */
export interface OutputLogWriter extends LogWriter {
  /**
   * @param sourceOffset the log has every byte of the output below it, up to this message; `follows`: a later message
   * of the same turn carries the offset for this one, too
   */
  write(stage: LogStage, level: LogLevel, message: string, sourceOffset?: number | 'follows'): void;
}

/** Opens a spool, created if absent; numbering goes on where it stopped. One opener per directory. */
export async function openLogSpool(options: LogSpoolOptions): Promise<LogSpool> {
  await mkdir(options.directory, { recursive: true, mode: 0o700 });
  const parts = await findParts(options.directory);
  const shipped = await readStateFile(join(options.directory, 'shipped.json'), shippedSchema);
  return new LogSpool(options, parts, shipped ?? { next: 0, sourceOffset: 0 });
}

export class LogSpool implements OutputLogWriter {
  private readonly options: LogSpoolOptions;
  private parts: LogPart[];
  private shippedNext: number;
  /** Updated only when parts change, because every line reads it. */
  private unshippedPartBytes = 0;
  private nextN: number;
  private sourceEnd: number;
  private pending: PendingLine[] = [];
  private pendingBytes = 0;
  private dropped: { readonly stage: LogStage; readonly lines: number; readonly bytes: number } | undefined;
  private lastTime = 0;
  private tail: Promise<unknown> = Promise.resolve();
  private flushTimer: NodeJS.Timeout | undefined;
  private readonly awake: () => number;
  private readonly recent: RecentLines<LogStage>;
  private lastWriteAt: number;

  constructor(options: LogSpoolOptions, parts: LogPart[], shipped: Shipped) {
    this.options = options;
    this.shippedNext = shipped.next;
    this.parts = parts;
    this.setParts(parts);
    this.nextN = Math.max(shipped.next, parts.at(-1)?.next ?? 0);
    this.recent = createRecentLines<LogStage>(RECENT, this.nextN);
    this.sourceEnd = Math.max(shipped.sourceOffset, ...parts.map((part) => part.sourceOffset));
    this.awake = options.awake ?? (() => performance.now());
    this.lastWriteAt = this.awake();
  }

  /** Bytes that only this spool has. */
  get unshippedBytes(): number {
    return this.unshippedPartBytes + this.pendingBytes;
  }

  /** The log has the output of its process up to this offset. */
  get sourceOffset(): number {
    return this.sourceEnd;
  }

  /** Time since the last line or, if this process has written none, since it opened the spool, ms. */
  get idleMs(): number {
    return this.awake() - this.lastWriteAt;
  }

  write(stage: LogStage, level: LogLevel, message: string, sourceOffset?: number | 'follows'): void {
    this.lastWriteAt = this.awake();
    const lines = logLines(message);
    const before = sourceOffset === undefined ? undefined : 'follows';
    for (const [index, line] of lines.entries()) {
      this.push(stage, level, line, index === lines.length - 1 ? sourceOffset : before);
    }
    if (typeof sourceOffset === 'number') this.sourceEnd = Math.max(this.sourceEnd, sourceOffset);
    this.flushTimer ??= setTimeout(() => {
      // Lines that cannot be written now stay pending; a caller that needs them safe calls flush and gets the error.
      this.flush().catch(() => undefined);
    }, this.options.flushMs);
  }

  writeOutput(stage: LogStage, output: AsyncIterable<ExecOutput>, tailLines: number): Promise<readonly string[]> {
    return writeExecOutput(this, stage, output, tailLines);
  }

  /** Makes everything written so far safe. @throws DISK_FULL; the lines stay pending then */
  flush(): Promise<void> {
    clearTimeout(this.flushTimer);
    this.flushTimer = undefined;
    return this.serialised(() => this.flushNow());
  }

  /**
   * Entries after number `after` that are safe on disk, in order.
   * @returns fewer than were written where early parts have been shipped and dropped
   */
  async read(after: number, limit: number): Promise<NumberedLogEntry<LogStage>[]> {
    const recent = this.recent.after(after)?.slice(0, limit);
    if (recent !== undefined) return recent;
    return this.serialised(async () => {
      const found: NumberedLogEntry<LogStage>[] = [];
      for (const part of this.parts) {
        if (part.next <= after + 1) continue;
        if (found.length >= limit) break;
        found.push(...(await readPart(this.options.directory, part, after + 1, limit - found.length)));
      }
      return found;
    });
  }

  /** Ships everything written so far, each part once. @throws what the shipper throws; the rest then stays here */
  async ship(shipper: PartShipper): Promise<void> {
    await this.flush();
    const waiting = await this.serialised(async () => {
      await this.sealOpenPart();
      return this.parts.filter((part) => part.next > this.shippedNext);
    });
    for (const part of waiting) {
      // Outside the lock: a slow store must delay neither writers nor readers. A sealed part does not change.
      await shipper({ first: part.first, path: partPath(this.options.directory, part) });
      await this.serialised(() => this.markShipped(part));
    }
  }

  private push(stage: LogStage, level: LogLevel, message: string, sourceOffset: number | 'follows' | undefined): void {
    this.noteDropped();
    if (this.dropped !== undefined || this.isFull()) {
      const { lines, bytes } = this.dropped ?? { lines: 0, bytes: 0 };
      this.dropped = { stage, lines: lines + 1, bytes: bytes + Buffer.byteLength(message) + 1 };
    } else this.enqueue(stage, level, message, sourceOffset);
  }

  private noteDropped(): void {
    if (this.dropped === undefined || this.isFull()) return;
    const { stage, lines, bytes } = this.dropped;
    this.dropped = undefined;
    const lost = `${lines} lines, ${bytes} bytes lost`;
    this.enqueue(stage, 'warn', `${lost}: the log could not be shipped and its spool was full`);
  }

  private isFull(): boolean {
    return this.unshippedBytes >= this.options.maxUnshippedBytes;
  }

  private enqueue(stage: LogStage, level: LogLevel, message: string, sourceOffset?: number | 'follows'): void {
    // Times must ascend with the numbers, even if the clock was set back.
    this.lastTime = Math.max(this.lastTime, this.options.now());
    const entry: NumberedLogEntry<LogStage> = {
      timestamp: new Date(this.lastTime).toISOString(),
      stage,
      message,
      level,
      epoch: this.options.epoch,
      writer: this.options.writer,
      n: this.nextN++,
    };
    const spooled: SpooledEntry = typeof sourceOffset === 'number' ? { ...entry, sourceOffset } : entry;
    const text = JSON.stringify(spooled);
    const line = {
      entry,
      text,
      bytes: Buffer.byteLength(text) + 1,
      sourceOffset: typeof sourceOffset === 'number' ? sourceOffset : 0,
      offsetFollows: sourceOffset === 'follows',
    };
    this.pending.push(line);
    this.pendingBytes += line.bytes;
  }

  private async flushNow(): Promise<void> {
    while (this.pending.length > 0) {
      const { lines, bytes } = this.nextAppend();
      const first = this.nextN - this.pending.length;
      const open = this.parts.at(-1);
      const reuse = open !== undefined && !open.sealed;
      const part = reuse ? open : { first, next: first, bytes: 0, sealed: false, sourceOffset: 0 };
      let written: LogPart;
      try {
        const texts = lines.map(({ text }) => text);
        const sourceOffset = lines.reduce((end, line) => Math.max(end, line.sourceOffset), part.sourceOffset);
        written = { ...(await appendLines(this.options.directory, part, texts)), sourceOffset };
      } catch (error) {
        throw asDiskError(error, this.options.directory);
      }
      this.setParts([...(reuse ? this.parts.slice(0, -1) : this.parts), written]);
      this.recent.push(lines.map(({ entry }) => entry));
      this.pending = this.pending.slice(lines.length);
      this.pendingBytes -= bytes;
      this.options.onSafe?.();
      if (written.bytes >= this.options.partBytes) await this.sealOpenPart();
    }
  }

  /**
   * Keeps parts near their size: a reader loads a whole part. Never separates lines from the offset that covers
   * them: after a crash between the two the lines would be written again.
   */
  private nextAppend(): { lines: PendingLine[]; bytes: number } {
    let bytes = 0;
    const beyond = this.pending.findIndex((line) => {
      bytes += line.bytes;
      return bytes >= this.options.partBytes && !line.offsetFollows;
    });
    return { lines: this.pending.slice(0, beyond < 0 ? this.pending.length : beyond + 1), bytes };
  }

  private setParts(parts: LogPart[]): void {
    this.parts = parts;
    const unshipped = parts.filter((part) => part.next > this.shippedNext);
    this.unshippedPartBytes = unshipped.reduce((sum, part) => sum + part.bytes, 0);
  }

  private async sealOpenPart(): Promise<void> {
    const open = this.parts.at(-1);
    if (open === undefined || open.sealed) return;
    const sealed = await sealPart(this.options.directory, open);
    this.parts = [...this.parts.slice(0, -1), sealed];
  }

  private async markShipped({ next, sourceOffset }: LogPart): Promise<void> {
    if (next > this.shippedNext) {
      const shipped: Shipped = { next, sourceOffset };
      await writeStateFile(join(this.options.directory, 'shipped.json'), shipped);
      this.shippedNext = next;
    }
    let kept = 0;
    const drop = new Set<LogPart>();
    for (const part of this.parts.toReversed()) {
      if (part.next > this.shippedNext) continue;
      kept += part.bytes;
      if (kept > this.options.keepShippedBytes) drop.add(part);
    }
    for (const part of drop) await rm(partPath(this.options.directory, part), { force: true });
    this.setParts(this.parts.filter((part) => !drop.has(part)));
    this.noteDropped();
  }

  private serialised<T>(work: () => Promise<T>): Promise<T> {
    const result = this.tail.then(work, work);
    this.tail = result.catch(() => undefined);
    return result;
  }
}

function asDiskError(error: unknown, directory: string): unknown {
  if (!isFullDisk(error)) return error;
  return new KilnError('DISK_FULL', `No space for logs in ${directory}: free some on its file system.`, {}, error);
}
