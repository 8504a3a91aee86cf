import type { ExecOutput, OutputStream } from '../../activities/ports.ts';
import { KilnError } from '../../domain/failures.ts';

/** Stream number and offset before the bytes of an output frame. */
const OUTPUT_HEADER = 9;
const GAP_BYTES = 16;

/** @throws AGENT_PROTOCOL where the payload is no piece of output. */
export function parseOutput(payload: Buffer): ExecOutput {
  if (payload.length <= OUTPUT_HEADER) throw malformed();
  const stream = outputStream(payload.readUInt8(0));
  return { kind: 'data', stream, offset: readOffset(payload, 1), data: payload.subarray(OUTPUT_HEADER) };
}

/** @throws AGENT_PROTOCOL where the payload is no gap. */
export function parseGap(payload: Buffer): ExecOutput {
  if (payload.length !== GAP_BYTES) throw malformed();
  return { kind: 'gap', offset: readOffset(payload, 0), bytes: readOffset(payload, 8) };
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

interface Queued {
  readonly piece: ExecOutput;
  /** Credit that the piece cost. */
  readonly cost: number;
}

/**
 * Output between the wire and one reader. Holds at most the window of its stream. A reader that leaves early is taken
 * as not interested in the rest: what still comes is thrown away, so that the exit can arrive.
 */
export class OutputQueue implements AsyncIterable<ExecOutput>, AsyncIterator<ExecOutput> {
  readonly #queue: Queued[] = [];
  /** Called when a piece has left the queue: its credit, and the offset behind it. */
  readonly #onTaken: (cost: number) => void;
  /** Called when the reader asks for the next piece, and so is done with everything before this offset. */
  readonly #onHandled: (offset: number) => void;
  #wake: (() => void) | undefined;
  #next: number;
  #handled: number | undefined;
  #ended = false;
  #error: KilnError | undefined;
  #discarding = false;

  constructor(from: number, onTaken: (cost: number) => void, onHandled: (offset: number) => void) {
    this.#next = from;
    this.#onTaken = onTaken;
    this.#onHandled = onHandled;
  }

  /** @throws AGENT_PROTOCOL where the piece does not follow the one before. */
  push(piece: ExecOutput, cost: number): void {
    if (piece.offset !== this.#next) throw malformed();
    this.#next = endOf(piece);
    if (this.#discarding) {
      this.#onTaken(cost);
      this.#onHandled(this.#next);
      return;
    }
    this.#queue.push({ piece, cost });
    this.#wake?.();
  }

  /** All output has arrived. */
  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  fail(error: KilnError): void {
    this.#error = error;
    this.#wake?.();
  }

  [Symbol.asyncIterator](): AsyncIterator<ExecOutput> {
    return this;
  }

  async next(): Promise<IteratorResult<ExecOutput>> {
    this.#tellHandled();
    for (;;) {
      const first = this.#queue.shift();
      if (first !== undefined) {
        this.#onTaken(first.cost);
        this.#handled = endOf(first.piece);
        return { done: false, value: first.piece };
      }
      if (this.#discarding || this.#ended) return { done: true, value: undefined };
      if (this.#error !== undefined) throw this.#error;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async return(): Promise<IteratorResult<ExecOutput>> {
    this.#discarding = true;
    for (const { cost } of this.#queue.splice(0)) this.#onTaken(cost);
    return { done: true, value: undefined };
  }

  #tellHandled(): void {
    if (this.#handled !== undefined) this.#onHandled(this.#handled);
    this.#handled = undefined;
  }
}
