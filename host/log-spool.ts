/** The log of one workload, epoch and writer on this host's disk: numbered, safe before it is shown, shipped in parts. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { ExecOutput, WorkloadLogWriter } from '../activities/ports.ts';
import { KilnError } from '../domain/failures.ts';
import type { LogLevel, NumberedLogEntry } from '../domain/log-entry.ts';
import type { Stage } from '../domain/stages.ts';
import { hasCode } from '../vmm/process-identity.ts';
import { writeExecOutput } from './exec-output-log.ts';
import { appendLines, findParts, type LogPart, partPath, readPart, type SpooledEntry, sealPart } from './log-parts.ts';
import { logLines } from './log-text.ts';
import { readRecord, writeRecord } from './record-file.ts';

export interface LogSpoolLimits {
  /** A part is sealed when it is as large as this. */
  readonly partBytes: number;
  /** Bytes that are not shipped yet, in memory and on disk together; further lines are dropped and counted. */
  readonly maxUnshippedBytes: number;
  /** Shipped parts are kept for readers up to this. */
  readonly keepShippedBytes: number;
  /** Longest time that a line waits before it is made safe without anybody asking, ms. */
  readonly flushMs: number;
}

export interface LogSpoolOptions extends LogSpoolLimits {
  readonly directory: string;
  readonly epoch: number;
  readonly writer: string;
  readonly now: () => number;
}

/** Puts one sealed part where it belongs. @throws STORE_UNAVAILABLE */
export type PartShipper = (part: { first: number; path: string }) => Promise<void>;

const shippedSchema = z.strictObject({ next: z.int().min(0), sourceOffset: z.int().min(0) });
type Shipped = z.infer<typeof shippedSchema>;

/** A log that also remembers how far the output of a process is in it: in the very lines, so that neither lags behind. */
export interface SourceLogWriter extends WorkloadLogWriter {
  /** @param sourceOffset every byte of the output below it is in the log up to this message */
  write(stage: Stage, level: LogLevel, message: string, sourceOffset?: number): void;
}

/** Opens a spool, made if absent; numbering goes on where it stopped. One opener a directory. */
export async function openLogSpool(options: LogSpoolOptions): Promise<LogSpool> {
  await mkdir(options.directory, { recursive: true, mode: 0o700 });
  const parts = await findParts(options.directory);
  const shipped = await readRecord(join(options.directory, 'shipped.json'), shippedSchema);
  return new LogSpool(options, parts, shipped ?? { next: 0, sourceOffset: 0 });
}

export class LogSpool implements SourceLogWriter {
  private readonly options: LogSpoolOptions;
  private parts: LogPart[];
  private shippedNext: number;
  private nextN: number;
  private sourceEnd: number;
  private pending: string[] = [];
  private pendingBytes = 0;
  private dropped: { readonly stage: Stage; readonly lines: number } | undefined;
  private lastTime = 0;
  private tail: Promise<unknown> = Promise.resolve();
  private flushTimer: NodeJS.Timeout | undefined;
  private lastWriteAt: number;

  constructor(options: LogSpoolOptions, parts: LogPart[], shipped: Shipped) {
    this.options = options;
    this.parts = parts;
    this.shippedNext = shipped.next;
    this.nextN = Math.max(shipped.next, parts.at(-1)?.next ?? 0);
    this.sourceEnd = Math.max(shipped.sourceOffset, ...parts.map((part) => part.sourceOffset));
    this.lastWriteAt = options.now();
  }

  /** Bytes that only this spool has. */
  get unshippedBytes(): number {
    const parts = this.parts.filter((part) => part.next > this.shippedNext);
    return parts.reduce((sum, part) => sum + part.bytes, this.pendingBytes);
  }

  /** Up to here the output of the process behind this log is in it. */
  get sourceOffset(): number {
    return this.sourceEnd;
  }

  get idleSince(): number {
    return this.lastWriteAt;
  }

  write(stage: Stage, level: LogLevel, message: string, sourceOffset?: number): void {
    this.lastWriteAt = this.options.now();
    const lines = logLines(message);
    for (const [index, line] of lines.entries()) {
      this.push(stage, level, line, index === lines.length - 1 ? sourceOffset : undefined);
    }
    this.sourceEnd = Math.max(this.sourceEnd, sourceOffset ?? 0);
    this.flushTimer ??= setTimeout(() => {
      // What cannot be written now stays pending; whoever needs it safe calls flush and gets the error.
      this.flush().catch(() => undefined);
    }, this.options.flushMs);
  }

  writeOutput(stage: Stage, output: AsyncIterable<ExecOutput>, tailLines: number): Promise<readonly string[]> {
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
   * @returns fewer than there were where early parts have been shipped and dropped
   */
  read(after: number, limit: number): Promise<NumberedLogEntry[]> {
    return this.serialised(async () => {
      const found: NumberedLogEntry[] = [];
      for (const part of this.parts) {
        if (part.next <= after + 1) continue;
        if (found.length >= limit) break;
        found.push(...(await readPart(this.options.directory, part, after + 1, limit - found.length)));
      }
      return found;
    });
  }

  /** Ships all that was written so far, each part once. @throws what the shipper throws; the rest stays here then */
  async ship(shipper: PartShipper): Promise<void> {
    await this.flush();
    const waiting = await this.serialised(async () => {
      await this.sealOpenPart();
      return this.parts.filter((part) => part.next > this.shippedNext);
    });
    for (const part of waiting) {
      // Not under the lock: a slow store must hold up neither writers nor readers. A sealed part does not change.
      await shipper({ first: part.first, path: partPath(this.options.directory, part) });
      await this.serialised(() => this.markShipped(part));
    }
  }

  private push(stage: Stage, level: LogLevel, message: string, sourceOffset: number | undefined): void {
    this.noteDropped();
    if (this.dropped !== undefined || this.isFull()) {
      this.dropped = { stage, lines: (this.dropped?.lines ?? 0) + 1 };
    } else this.enqueue(stage, level, message, sourceOffset);
  }

  private noteDropped(): void {
    if (this.dropped === undefined || this.isFull()) return;
    const { stage, lines } = this.dropped;
    this.dropped = undefined;
    this.enqueue(stage, 'warn', `${lines} lines dropped: the log could not be shipped and its spool was full`);
  }

  private isFull(): boolean {
    return this.unshippedBytes >= this.options.maxUnshippedBytes;
  }

  private enqueue(stage: Stage, level: LogLevel, message: string, sourceOffset?: number): void {
    // Numbers and times must agree, also where the clock was set back.
    this.lastTime = Math.max(this.lastTime, this.options.now());
    const entry: SpooledEntry = {
      timestamp: new Date(this.lastTime).toISOString(),
      stage,
      message,
      level,
      epoch: this.options.epoch,
      writer: this.options.writer,
      n: this.nextN++,
      ...(sourceOffset === undefined ? {} : { sourceOffset }),
    };
    const line = JSON.stringify(entry);
    this.pending.push(line);
    this.pendingBytes += Buffer.byteLength(line) + 1;
  }

  private async flushNow(): Promise<void> {
    while (this.pending.length > 0) {
      // Both as they are now: more may be written while these are.
      const lines = [...this.pending];
      const sourceOffset = this.sourceEnd;
      const bytes = this.pendingBytes;
      const first = this.nextN - lines.length;
      const open = this.parts.at(-1);
      const reuse = open !== undefined && !open.sealed;
      const part = reuse ? open : { first, next: first, bytes: 0, sealed: false, sourceOffset: 0 };
      let written: LogPart;
      try {
        written = { ...(await appendLines(this.options.directory, part, lines)), sourceOffset };
      } catch (error) {
        throw asDiskError(error, this.options.directory);
      }
      this.parts = [...(reuse ? this.parts.slice(0, -1) : this.parts), written];
      this.pending = this.pending.slice(lines.length);
      this.pendingBytes -= bytes;
      if (written.bytes >= this.options.partBytes) await this.sealOpenPart();
    }
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
      await writeRecord(join(this.options.directory, 'shipped.json'), shipped);
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
    this.parts = this.parts.filter((part) => !drop.has(part));
    this.noteDropped();
  }

  private serialised<T>(work: () => Promise<T>): Promise<T> {
    const result = this.tail.then(work, work);
    this.tail = result.catch(() => undefined);
    return result;
  }
}

function asDiskError(error: unknown, directory: string): unknown {
  if (!hasCode(error, 'ENOSPC') && !hasCode(error, 'EDQUOT')) return error;
  return new KilnError('DISK_FULL', `No space for logs in ${directory}: free some on its file system.`, {}, error);
}
