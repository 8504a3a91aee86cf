import { KilnError } from '../../domain/failures.ts';
import type { Frame, FrameType } from './frames.ts';
import { encodeFrame, FRAME, MAX_PAYLOAD, WINDOW } from './frames.ts';
import { parseRefusal } from './messages.ts';

/** Events of a stream for its owner. A frame without a handler breaks the protocol. */
export interface StreamHandler {
  opened?(payload: Buffer): void;
  data?(payload: Buffer): void;
  end?(): void;
  done?(payload: Buffer): void;
  output?(payload: Buffer): void;
  gap?(payload: Buffer): void;
  exit?(payload: Buffer): void;
  /** The stream failed: refused or reset by the guest, or lost with its channel. Called at most once, and last. */
  failed(error: KilnError): void;
}

/** What a stream needs of its connection. */
export interface StreamCarrier {
  write(frame: Buffer): void;
  /** Resolves once the connection takes more bytes. */
  writable(): Promise<void>;
  forget(id: number): void;
}

/** One stream of a channel. Bytes in both directions are bounded by credit. */
export class MuxStream {
  readonly id: number;
  private readonly carrier: StreamCarrier;
  private readonly handler: StreamHandler;
  private outCredit = WINDOW;
  private inOutstanding = 0;
  private ungranted = 0;
  private opened = false;
  private outEnded = false;
  private inEnded = false;
  private failure: KilnError | undefined;
  private isOver = false;
  private wakeSender: (() => void) | undefined;

  constructor(id: number, carrier: StreamCarrier, handler: StreamHandler) {
    this.id = id;
    this.carrier = carrier;
    this.handler = handler;
  }

  get over(): boolean {
    return this.isOver;
  }

  /**
   * Sends bytes as data frames. One call at a time.
   * @throws the failure of the stream where it is over before all was sent.
   */
  async send(data: Uint8Array): Promise<void> {
    for (let at = 0; at < data.length; ) {
      const want = Math.min(data.length - at, MAX_PAYLOAD);
      const size = Math.min(want, await this.credit());
      this.outCredit -= size;
      this.carrier.write(encodeFrame(FRAME.data, this.id, data.subarray(at, at + size)));
      at += size;
      await this.carrier.writable();
    }
  }

  /** @returns at least one byte of credit. */
  private async credit(): Promise<number> {
    for (;;) {
      if (this.isOver) throw this.failure ?? closedHere();
      if (this.outCredit > 0) return this.outCredit;
      await new Promise<void>((resolve) => {
        this.wakeSender = resolve;
      });
    }
  }

  /** Sends one small frame that costs no credit. */
  sendFrame(type: FrameType, payload?: Buffer): void {
    if (!this.isOver) this.carrier.write(encodeFrame(type, this.id, payload));
  }

  /** Tells the guest that no more data comes from here. */
  end(): void {
    if (this.isOver || this.outEnded) return;
    this.sendFrame(FRAME.end);
    this.outEnded = true;
    if (this.inEnded) this.finish();
  }

  /** Gives back credit for bytes that were consumed. */
  grant(bytes: number): void {
    this.inOutstanding -= bytes;
    this.ungranted += bytes;
    if (this.isOver || this.inEnded || this.ungranted < WINDOW / 4) return;
    const payload = Buffer.alloc(4);
    payload.writeUInt32BE(this.ungranted);
    this.ungranted = 0;
    this.sendFrame(FRAME.credit, payload);
  }

  /** Ends the stream and tells the guest. The handler gets no further calls. */
  reset(code: string, message: string): void {
    if (this.isOver) return;
    const reason = JSON.stringify({ code, message: message.slice(0, 1000) });
    this.sendFrame(FRAME.reset, Buffer.from(reason));
    this.finish();
  }

  /** Called by the channel when it is lost. */
  lose(error: KilnError): void {
    if (this.isOver) return;
    this.failure = error;
    this.finish();
    this.handler.failed(error);
  }

  /** Takes one frame of the guest. @throws AGENT_PROTOCOL where it does not fit. */
  deliver(frame: Frame): void {
    const { payload } = frame;
    switch (frame.type) {
      case FRAME.data:
        this.counted(payload, this.handler.data);
        break;
      case FRAME.output:
        this.counted(payload, this.handler.output);
        break;
      case FRAME.gap:
        this.counted(payload, this.handler.gap);
        break;
      case FRAME.credit:
        this.addCredit(payload);
        break;
      case FRAME.opened:
        this.open(payload);
        break;
      case FRAME.end:
        this.ended();
        break;
      case FRAME.reset:
        this.lose(parseRefusal(payload));
        break;
      case FRAME.done:
        this.last(payload, this.handler.done);
        break;
      case FRAME.exit:
        this.last(payload, this.handler.exit);
        break;
      default:
        throw unexpected();
    }
  }

  private open(payload: Buffer): void {
    const handle = this.required(this.handler.opened);
    if (this.opened) throw unexpected();
    this.opened = true;
    handle.call(this.handler, payload);
  }

  /** A stream that has to be accepted carries nothing before that. */
  private mustBeOpen(): void {
    if (this.handler.opened !== undefined && !this.opened) throw unexpected();
  }

  private required<T>(handler: T | undefined): T {
    if (handler === undefined) throw unexpected();
    return handler;
  }

  private counted(payload: Buffer, handler: ((payload: Buffer) => void) | undefined): void {
    const handle = this.required(handler);
    this.mustBeOpen();
    this.inOutstanding += payload.length;
    if (this.inEnded || this.inOutstanding > WINDOW) throw unexpected();
    // Empty data is skipped; output and gaps are never empty, which their parsers ensure.
    if (payload.length > 0 || handler !== this.handler.data) handle.call(this.handler, payload);
  }

  private addCredit(payload: Buffer): void {
    if (payload.length !== 4) throw unexpected();
    this.outCredit += payload.readUInt32BE(0);
    if (this.outCredit > WINDOW) throw unexpected();
    this.wakeSender?.();
  }

  private ended(): void {
    const handle = this.required(this.handler.end);
    this.mustBeOpen();
    if (this.inEnded) throw unexpected();
    this.inEnded = true;
    if (this.outEnded) this.finish();
    handle.call(this.handler);
  }

  private last(payload: Buffer, handler: ((payload: Buffer) => void) | undefined): void {
    const handle = this.required(handler);
    this.mustBeOpen();
    this.finish();
    handle.call(this.handler, payload);
  }

  private finish(): void {
    this.isOver = true;
    this.carrier.forget(this.id);
    this.wakeSender?.();
  }
}

function unexpected(): KilnError {
  return new KilnError('AGENT_PROTOCOL', 'The guest agent sent a frame that does not fit its stream.');
}

function closedHere(): KilnError {
  return new KilnError('CANCELLED', 'The stream was closed on this side.');
}
