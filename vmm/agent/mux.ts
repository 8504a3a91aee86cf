import type { Duplex } from 'node:stream';
import { setImmediate } from 'node:timers';
import type { z } from 'zod';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import type { Frame, FrameReader } from './frames.ts';
import { encodeFrame, FRAME } from './frames.ts';
import { parseMessage, parseRefusal } from './messages.ts';
import type { StreamCarrier, StreamHandler } from './mux-stream.ts';
import { MuxStream } from './mux-stream.ts';

/** Streams that a guest may have open towards the host at once. */
const MAX_GUEST_STREAMS = 1024;
/** Unsent bytes above which nothing more is read: a guest that does not read must not fill the host's memory. */
const MAX_UNSENT = 4 * 1024 * 1024;

/** Frames that are handled in one go: a guest that sends many tiny ones must not delay its neighbours. */
const FRAMES_A_TURN = 64;

/** Accepts a stream that the guest opens. @throws AGENT_PROTOCOL where the request is not valid. */
export type GuestOpener = (id: number, request: Buffer, make: (handler: StreamHandler) => MuxStream) => void;

/** Many streams over one connection to an agent that has said hello. */
export class Mux implements StreamCarrier {
  /** Resolves with the reason once the connection is gone. */
  readonly closed: Promise<KilnError>;
  private readonly socket: Duplex;
  private readonly reader: FrameReader;
  private readonly onGuestOpen: GuestOpener;
  private readonly streams = new Map<number, MuxStream>();
  private readonly pings = new Map<string, { resolve: () => void; reject: (reason: KilnError) => void }>();
  private readonly acks = new Map<string, number>();
  /** Frames of the last read that are not handled yet. */
  private backlog: Frame[] = [];
  private drainWaiters: (() => void)[] = [];
  private resolveClosed: (reason: KilnError) => void = () => {};
  private reason: KilnError | undefined;
  private nextId = 1;
  private lastGuestId = 0;
  private guestStreams = 0;
  private pingCount = 0;

  constructor(socket: Duplex, reader: FrameReader, onGuestOpen: GuestOpener) {
    this.socket = socket;
    this.reader = reader;
    this.onGuestOpen = onGuestOpen;
    this.closed = new Promise((resolve) => {
      this.resolveClosed = resolve;
    });
  }

  /** Begins to read; `first` are frames that came together with the hello. */
  start(first: readonly Frame[]): void {
    this.socket.on('data', (chunk: Buffer) => this.take(() => this.reader.push(chunk)));
    this.socket.on('error', (cause: Error) => this.over(lost(`The connection failed: ${cause.message}`, cause)));
    this.socket.on('end', () => this.over(lost('The guest side ended the connection.')));
    this.socket.on('drain', () => this.wakeWriters());
    this.socket.on('close', () => this.over(lost('The connection was closed.')));
    this.take(() => first);
  }

  private take(frames: () => readonly Frame[]): void {
    if (this.reason !== undefined) return;
    this.guarded(() => {
      this.backlog = this.backlog.concat(frames());
    });
    this.work(FRAMES_A_TURN);
  }

  /** Handles frames; reads nothing more while some are left, so there are never more than one read gives. */
  private work(most: number): void {
    if (this.reason !== undefined) return;
    const now = this.backlog.splice(0, most);
    this.guarded(() => {
      for (const frame of now) this.dispatch(frame);
    });
    if (this.reason !== undefined) return;
    if (this.backlog.length > 0) {
      this.socket.pause();
      setImmediate(() => this.work(FRAMES_A_TURN));
    } else if (this.socket.writableLength > MAX_UNSENT) {
      this.socket.pause();
      void this.writable().then(() => this.socket.resume());
    } else {
      this.socket.resume();
    }
  }

  private guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.fail(isKilnError(error) ? error : new KilnError('INTERNAL', 'Reading from the guest failed.', {}, error));
    }
  }

  /** The connection is over: first handles what came before. */
  private over(reason: KilnError): void {
    this.work(this.backlog.length);
    this.fail(reason);
  }

  private dispatch(frame: Frame): void {
    if (this.reason !== undefined) return;
    switch (frame.type) {
      case FRAME.pong:
        this.pings.get(frame.payload.toString('latin1'))?.resolve();
        break;
      case FRAME.goodbye:
        throw new KilnError('AGENT_PROTOCOL', `The guest agent hung up: ${parseRefusal(frame.payload).message}`);
      case FRAME.open:
        this.accept(frame);
        break;
      default:
        this.deliver(frame);
    }
  }

  private deliver(frame: Frame): void {
    const stream = this.streams.get(frame.stream);
    if (stream !== undefined) {
      stream.deliver(frame);
      return;
    }
    // A frame may arrive after the end of its stream, but not for a stream that never existed.
    const everOpened = frame.stream % 2 === 1 ? frame.stream < this.nextId : frame.stream <= this.lastGuestId;
    if (!everOpened || frame.stream === 0) {
      throw new KilnError('AGENT_PROTOCOL', 'The guest agent sent a frame for a stream that does not exist.');
    }
  }

  private accept(frame: Frame): void {
    const id = frame.stream;
    if (id === 0 || id % 2 !== 0 || id <= this.lastGuestId) {
      throw new KilnError('AGENT_PROTOCOL', 'The guest agent opened a stream with an id that it may not use.');
    }
    this.lastGuestId = id;
    if (this.guestStreams >= MAX_GUEST_STREAMS) {
      const reason = JSON.stringify({ code: 'QUEUE_FULL', message: 'too many open connections' });
      this.write(encodeFrame(FRAME.reset, id, Buffer.from(reason)));
      return;
    }
    this.onGuestOpen(id, frame.payload, (handler) => {
      const stream = new MuxStream(id, this, handler);
      this.streams.set(id, stream);
      this.guestStreams += 1;
      return stream;
    });
  }

  /** Opens a stream towards the guest. @throws the reason where the channel is gone. */
  open(request: Readonly<Record<string, unknown>>, handler: StreamHandler): MuxStream {
    if (this.reason !== undefined) throw this.reason;
    const stream = new MuxStream(this.nextId, this, handler);
    this.write(encodeFrame(FRAME.open, stream.id, Buffer.from(JSON.stringify(request))));
    this.nextId += 2;
    this.streams.set(stream.id, stream);
    return stream;
  }

  /**
   * One request with one answer.
   * @throws AGENT_TIMEOUT after `timeoutMs`, AGENT_LOST, or the guest's refusal.
   */
  call<T>(request: Readonly<Record<string, unknown>>, answer: z.ZodType<T>, timeoutMs: number): Promise<T> {
    return withTimeout(timeoutMs, String(request['kind']), (resolve, reject) => {
      const stream = this.open(request, {
        done: (payload) => parseReply(answer, payload, resolve, reject),
        failed: reject,
      });
      return () => stream.reset('TIMED_OUT', 'no answer in time');
    });
  }

  /** @throws AGENT_TIMEOUT, AGENT_LOST */
  ping(timeoutMs: number): Promise<void> {
    if (this.reason !== undefined) return Promise.reject(this.reason);
    this.pingCount += 1;
    const token = `ping-${this.pingCount}`;
    return withTimeout<void>(timeoutMs, 'ping', (resolve, reject) => {
      this.pings.set(token, { resolve, reject });
      this.write(encodeFrame(FRAME.ping, 0, Buffer.from(token, 'latin1')));
      return () => {};
    }).finally(() => this.pings.delete(token));
  }

  /** Tells the guest, at the latest at the end of this event-loop turn, which output of a process it may forget. */
  acknowledge(execId: string, offset: number): void {
    if (this.acks.size === 0) setImmediate(() => this.sendAcks());
    this.acks.set(execId, Math.max(this.acks.get(execId) ?? 0, offset));
  }

  private sendAcks(): void {
    for (const [execId, offset] of this.acks) {
      const payload = Buffer.alloc(8);
      payload.writeBigUInt64BE(BigInt(offset));
      this.write(encodeFrame(FRAME.ack, 0, Buffer.concat([payload, Buffer.from(execId)])));
    }
    this.acks.clear();
  }

  write(frame: Buffer): void {
    if (this.reason === undefined) this.socket.write(frame);
  }

  writable(): Promise<void> {
    if (this.reason !== undefined || !this.socket.writableNeedDrain) return Promise.resolve();
    return new Promise((resolve) => this.drainWaiters.push(resolve));
  }

  private wakeWriters(): void {
    const waiters = this.drainWaiters;
    this.drainWaiters = [];
    for (const wake of waiters) wake();
  }

  forget(id: number): void {
    if (this.streams.delete(id) && id % 2 === 0) this.guestStreams -= 1;
  }

  /** Ends everything with a reason. Only the first call counts. */
  fail(reason: KilnError): void {
    if (this.reason !== undefined) return;
    this.reason = reason;
    for (const stream of [...this.streams.values()]) stream.lose(reason);
    for (const ping of this.pings.values()) ping.reject(reason);
    this.wakeWriters();
    this.socket.destroy();
    this.resolveClosed(reason);
  }

  /** Detaches from the guest once what was written has gone out, or at the latest after `timeoutMs`. */
  async detach(timeoutMs: number): Promise<void> {
    if (this.reason !== undefined) return;
    this.sendAcks();
    const done = lost('This side let go of the guest.');
    const timer = setTimeout(() => this.fail(done), timeoutMs);
    this.socket.end(() => this.fail(done));
    await this.closed;
    clearTimeout(timer);
  }
}

/**
 * Settles a request with what the guest answered.
 * @throws AGENT_PROTOCOL where the answer is not valid, so that the channel ends as well.
 */
export function parseReply<T>(
  schema: z.ZodType<T>,
  payload: Buffer,
  resolve: (value: T) => void,
  reject: (error: KilnError) => void,
): void {
  try {
    resolve(parseMessage(schema, payload, 'reply'));
  } catch (error) {
    if (isKilnError(error)) reject(error);
    throw error;
  }
}

function lost(message: string, cause?: unknown): KilnError {
  return new KilnError('AGENT_LOST', message, {}, cause);
}

/** Runs `begin`, whose result undoes it, and gives up after `timeoutMs`. */
export function withTimeout<T>(
  timeoutMs: number,
  what: string,
  begin: (resolve: (value: T) => void, reject: (error: Error) => void) => () => void,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const timer = setTimeout(() => {
      giveUp();
      reject(new KilnError('AGENT_TIMEOUT', `The guest agent did not answer ${what} within ${timeoutMs} ms.`));
    }, timeoutMs);
    const settle =
      <A>(settleWith: (value: A) => void) =>
      (value: A) => {
        clearTimeout(timer);
        settleWith(value);
      };
    let giveUp = () => {};
    try {
      giveUp = begin(settle(resolve), settle(reject));
    } catch (error) {
      clearTimeout(timer);
      reject(error);
    }
  });
}
