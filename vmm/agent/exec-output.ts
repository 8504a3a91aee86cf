import { KilnError } from '../../domain/failures.ts';
import type { ExecOutput, OutputStream } from '../../ports/guest-agent.ts';
import { JoinedBytes } from './joined-bytes.ts';

/** Stream number and offset before the bytes of an output frame. */
const OUTPUT_HEADER = 9;
const GAP_BYTES = 16;

/** @throws AGENT_PROTOCOL where the payload is not a piece of output. */
export function parseOutput(payload: Buffer): ExecOutput {
  if (payload.length <= OUTPUT_HEADER) throw malformed();
  const stream = outputStream(payload.readUInt8(0));
  return { kind: 'data', stream, offset: readOffset(payload, 1), data: payload.subarray(OUTPUT_HEADER) };
}

/** @throws AGENT_PROTOCOL where the payload is not a gap. */
export function parseGap(payload: Buffer): ExecOutput {
  if (payload.length !== GAP_BYTES) throw malformed();
  const gap = { kind: 'gap', offset: readOffset(payload, 0), bytes: readOffset(payload, 8) } as const;
  // A guest could report empty gaps without end; a gap that ends above the largest safe integer is not valid.
  if (gap.bytes === 0 || !Number.isSafeInteger(endOf(gap))) throw malformed();
  return gap;
}

/** @returns the offset right behind a piece. */
export function endOf(piece: ExecOutput): number {
  return piece.offset + (piece.kind === 'data' ? piece.data.length : piece.bytes);
}

function outputStream(value: number): OutputStream {
  if (value === 1) return 'stdout';
  if (value === 2) return 'stderr';
  throw malformed();
}

function readOffset(payload: Buffer, at: number): number {
  const offset = Number(payload.readBigUInt64BE(at));
  if (!Number.isSafeInteger(offset)) throw malformed();
  return offset;
}

function malformed(): KilnError {
  return new KilnError('AGENT_PROTOCOL', 'The guest agent sent a malformed piece of output.');
}

/** One piece, or several consecutive pieces of one kind. */
class Queued {
  private readonly first: ExecOutput;
  private readonly bytes: JoinedBytes | undefined;
  private gap: number;
  /** Credit that it cost. */
  cost: number;

  constructor(piece: ExecOutput, cost: number) {
    this.first = piece;
    this.bytes = piece.kind === 'data' ? new JoinedBytes(piece.data) : undefined;
    this.gap = piece.kind === 'gap' ? piece.bytes : 0;
    this.cost = cost;
  }

  /** @returns whether the piece became part of this. */
  join(piece: ExecOutput, cost: number): boolean {
    if (piece.kind === 'data') {
      const alike = this.first.kind === 'data' && this.first.stream === piece.stream;
      if (!alike || this.bytes?.join(piece.data) !== true) return false;
    } else {
      if (this.first.kind !== 'gap') return false;
      this.gap += piece.bytes;
    }
    this.cost += cost;
    return true;
  }

  take(): ExecOutput {
    if (this.first.kind === 'gap') return { ...this.first, bytes: this.gap };
    return { ...this.first, data: this.bytes?.take() ?? this.first.data };
  }
}

/**
 * Output between the wire and one reader. Holds at most the window of its stream. If a reader leaves early, the
 * rest is thrown away, so that the exit can arrive.
 */
export class OutputQueue implements AsyncIterable<ExecOutput>, AsyncIterator<ExecOutput> {
  private readonly queue: Queued[] = [];
  /** Called when a piece has left the queue, with its credit and the offset behind it. */
  private readonly onTaken: (cost: number) => void;
  /** Called when the reader asks for the next piece, and so has handled everything before this offset. */
  private readonly onHandled: (offset: number) => void;
  private wake: (() => void) | undefined;
  private nextOffset: number;
  private handled: number | undefined;
  private ended = false;
  private error: KilnError | undefined;
  private discarding = false;

  constructor(from: number, onTaken: (cost: number) => void, onHandled: (offset: number) => void) {
    this.nextOffset = from;
    this.onTaken = onTaken;
    this.onHandled = onHandled;
  }

  /** @throws AGENT_PROTOCOL where the piece does not follow the one before. */
  push(piece: ExecOutput, cost: number): void {
    if (piece.offset !== this.nextOffset) throw malformed();
    this.nextOffset = endOf(piece);
    if (this.discarding) {
      this.onTaken(cost);
      this.onHandled(this.nextOffset);
      return;
    }
    if (this.queue.at(-1)?.join(piece, cost) !== true) this.queue.push(new Queued(piece, cost));
    this.wake?.();
  }

  /** All output has arrived. */
  end(): void {
    this.ended = true;
    this.wake?.();
  }

  fail(error: KilnError): void {
    this.error = error;
    this.wake?.();
  }

  [Symbol.asyncIterator](): AsyncIterator<ExecOutput> {
    return this;
  }

  async next(): Promise<IteratorResult<ExecOutput>> {
    this.tellHandled();
    for (;;) {
      const first = this.queue.shift();
      if (first !== undefined) {
        const piece = first.take();
        this.onTaken(first.cost);
        this.handled = endOf(piece);
        return { done: false, value: piece };
      }
      if (this.discarding || this.ended) return { done: true, value: undefined };
      if (this.error !== undefined) throw this.error;
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
  }

  async return(): Promise<IteratorResult<ExecOutput>> {
    this.discarding = true;
    for (const { cost } of this.queue.splice(0)) this.onTaken(cost);
    return { done: true, value: undefined };
  }

  private tellHandled(): void {
    if (this.handled !== undefined) this.onHandled(this.handled);
    this.handled = undefined;
  }
}
