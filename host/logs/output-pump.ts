/** Turns the output of a guest's service into log lines: safe on disk first, then acknowledged to the guest. */

import type { LogLevel } from '../../domain/logs/log-entry.ts';
import { outputLevel } from '../../domain/logs/log-level.ts';
import type { LogStage } from '../../domain/logs/log-stage.ts';
import type { LogRef } from '../../domain/owner.ts';
import type { ExecHandle, ExecOutput, OutputStream } from '../../ports/guest-agent.ts';
import type { OwnerLogs } from '../../ports/logs.ts';
import { ByteLines } from './output-lines.ts';
import type { OutputLogWriter } from './spool.ts';

export interface ServiceOutputOptions {
  /** A line without an end is shown after this long, ms. */
  readonly partialLineMs: number;
  /** How many of the service's last lines stay in memory. */
  readonly tailLines: number;
  /** Most bytes taken from the guest and not safe on disk; above this no more are taken. */
  readonly maxUnsafeBytes: number;
}

export interface ServiceOutputTarget {
  readonly log: LogRef;
  readonly logs: Pick<OwnerLogs, 'saveServiceOffset'>;
  readonly writer: Pick<OutputLogWriter, 'write' | 'flush'>;
  /** LogStage that a line written now carries. */
  readonly stage: () => LogStage;
}

/**
 * Pumps one attached exec until its output ends.
 * @param handle attached with `manualAck` from the saved offset
 * @param tail the last lines; appended to, bounded by `tailLines`
 * @throws AGENT_LOST where the channel is lost: attach again from the saved offset and go on
 */
export async function pumpServiceOutput(
  handle: Pick<ExecHandle, 'output' | 'acknowledge'>,
  target: ServiceOutputTarget,
  tail: string[],
  options: ServiceOutputOptions,
): Promise<void> {
  const pump = new OutputPump(handle, target, tail, options);
  try {
    for await (const piece of handle.output) {
      pump.take(piece);
      await pump.room();
    }
  } catch (error) {
    pump.takeInterleaved();
    await pump.settle();
    throw error;
  }
  pump.takePartials();
  await pump.settle();
}

const STREAMS = ['stdout', 'stderr'] as const;

class OutputPump {
  private readonly handle: Pick<ExecHandle, 'acknowledge'>;
  private readonly target: ServiceOutputTarget;
  private readonly tail: string[];
  private readonly options: ServiceOutputOptions;
  private readonly lines = { stdout: new ByteLines(), stderr: new ByteLines() };
  /** Offset at which the unfinished line of a stream begins. */
  private readonly partialFrom: Partial<Record<OutputStream, number>> = {};
  /** When the first byte of that line came. */
  private readonly partialSince: Partial<Record<OutputStream, number>> = {};
  private end = 0;
  private savedTo = 0;
  private flushedTo = 0;
  private settling: Promise<void> | undefined;
  private failure: unknown;
  private partialTimer: NodeJS.Timeout | undefined;
  /** true while reading is paused because the spool is full */
  private waiting = false;
  private over = false;

  constructor(
    handle: Pick<ExecHandle, 'acknowledge'>,
    target: ServiceOutputTarget,
    tail: string[],
    options: ServiceOutputOptions,
  ) {
    this.handle = handle;
    this.target = target;
    this.tail = tail;
    this.options = options;
  }

  take(piece: ExecOutput): void {
    if (this.failure !== undefined) throw this.failure;
    if (piece.kind === 'gap') {
      this.takePartials();
      this.end = piece.offset + piece.bytes;
      this.write([`${piece.bytes} bytes of output lost: the log could not keep up with the service`], () => 'warn');
    } else {
      const { stream, data, offset } = piece;
      const lines = this.lines[stream].push(data);
      this.end = offset + data.length;
      this.notePartial(stream, lines.length > 0);
      this.write(lines, (line) => outputLevel(stream, line));
    }
    this.armPartialTimer();
    this.settleSoon();
  }

  /** Resolves when more may be taken: a disk slower than the guest must not fill the memory. */
  async room(): Promise<void> {
    if (!this.isFull()) return;
    this.waiting = true;
    while (this.isFull()) await this.settling;
    this.waiting = false;
    // While nothing is taken, the end of a line cannot come: that time does not count.
    for (const stream of STREAMS)
      if (this.partialSince[stream] !== undefined) this.partialSince[stream] = performance.now();
    this.armPartialTimer();
  }

  private isFull(): boolean {
    return this.settling !== undefined && this.end - this.flushedTo > this.options.maxUnsafeBytes;
  }

  /** Writes unfinished lines as they are. */
  takePartials(): void {
    clearTimeout(this.partialTimer);
    this.partialTimer = undefined;
    for (const stream of STREAMS) this.takePartial(stream);
  }

  /** After a lost channel the guest repeats what is not safe: lines after an unfinished one would be written twice. */
  takeInterleaved(): void {
    const held = this.lines.stdout.held + this.lines.stderr.held;
    if (this.end - this.safeEnd() !== held) this.takePartials();
  }

  /** Makes what was taken so far safe, then acknowledges it to the guest. */
  async settle(): Promise<void> {
    this.over = true;
    clearTimeout(this.partialTimer);
    await this.settling;
    await this.settleOnce();
    if (this.failure !== undefined) throw this.failure;
  }

  private takePartial(stream: OutputStream): void {
    const line = this.lines[stream].end();
    delete this.partialFrom[stream];
    delete this.partialSince[stream];
    if (line !== undefined) this.write([line], () => outputLevel(stream, line));
  }

  private notePartial(stream: OutputStream, hadLines: boolean): void {
    const held = this.lines[stream].held;
    if (held === 0) {
      delete this.partialFrom[stream];
      delete this.partialSince[stream];
    } else if (hadLines || this.partialFrom[stream] === undefined) {
      // Bytes of the other stream may be in between: then this is earlier than necessary, which is safe.
      this.partialFrom[stream] = this.end - held;
      this.partialSince[stream] = performance.now();
    }
  }

  /** Each stream's line has its own deadline: a busy stream neither delays the other's nor gets its own cut early. */
  private armPartialTimer(): void {
    const since = STREAMS.flatMap((stream) => this.partialSince[stream] ?? []);
    if (since.length === 0 || this.partialTimer !== undefined) return;
    const dueMs = Math.min(...since) + this.options.partialLineMs - performance.now();
    // First read what came while this process was stopped: it may hold the end of the line.
    const due = () => setImmediate(() => this.takeOldPartials());
    this.partialTimer = setTimeout(due, Math.max(1, Math.ceil(dueMs)));
  }

  private takeOldPartials(): void {
    this.partialTimer = undefined;
    if (this.waiting || this.over) return;
    const longAgo = performance.now() - this.options.partialLineMs;
    for (const stream of STREAMS) if ((this.partialSince[stream] ?? Infinity) <= longAgo) this.takePartial(stream);
    this.armPartialTimer();
    this.settleSoon();
  }

  private settleSoon(): void {
    this.settling ??= this.settleOnce()
      .catch((error: unknown) => {
        this.failure = error;
      })
      .finally(() => {
        this.settling = undefined;
        if (this.failure === undefined && this.safeEnd() > this.savedTo) this.settleSoon();
      });
  }

  private async settleOnce(): Promise<void> {
    const safe = this.safeEnd();
    if (safe <= this.savedTo) return;
    const { logs, writer, log } = this.target;
    const taken = this.end;
    await writer.flush();
    this.flushedTo = taken;
    await logs.saveServiceOffset(log, safe);
    this.savedTo = safe;
    this.handle.acknowledge(safe);
  }

  /** Offset up to which every byte is in a line of the log. */
  private safeEnd(): number {
    return Math.min(this.end, this.partialFrom.stdout ?? this.end, this.partialFrom.stderr ?? this.end);
  }

  private write(lines: readonly string[], levelOf: (line: string) => LogLevel): void {
    for (const [index, line] of lines.entries()) {
      const last = index === lines.length - 1;
      this.target.writer.write(this.target.stage(), levelOf(line), line, last ? this.safeEnd() : 'follows');
      this.tail.push(line);
      if (this.tail.length > this.options.tailLines) this.tail.shift();
    }
  }
}
