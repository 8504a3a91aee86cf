import { Readable } from 'node:stream';
import type { MuxStream } from '../mux-stream.ts';
import { IdleWatch } from './idle-watch.ts';
import { InboundQueue } from './inbound-queue.ts';

/** Where the handler of a stream puts what the guest sends. */
export interface InboundSink {
  add(payload: Buffer): void;
  /** Nothing comes after what was added. */
  end(): void;
  fail(error: Error | undefined): void;
}

export interface InboundOptions {
  /** What is read, e.g. `An archive`. */
  readonly what: string;
  /** How long the reader waits for a guest that sends nothing, ms. */
  readonly idleMs: number;
  /** Opens the stream in the guest, when the reader begins. */
  readonly open: (sink: InboundSink) => MuxStream;
}

/**
 * What a guest sends on one stream, for a reader that sets the pace. It fails with the guest's refusal, AGENT_TIMEOUT,
 * AGENT_LOST, or what the sink is told.
 */
export class InboundReadable extends Readable {
  private readonly inbound = new InboundQueue(
    (chunk) => {
      this.idle.stop();
      return this.push(chunk);
    },
    (bytes) => this.stream?.grant(bytes),
  );
  private readonly idle: IdleWatch;
  private readonly begin: () => MuxStream;
  private stream: MuxStream | undefined;

  constructor({ what, idleMs, open }: InboundOptions) {
    super();
    this.idle = new IdleWatch(what, idleMs, () => this.destroy(this.idle.expired));
    this.begin = () =>
      open({
        add: (payload) => this.inbound.add(payload),
        end: () => this.inbound.end(),
        fail: (error) => this.destroy(error),
      });
  }

  override _construct(callback: (error?: Error | null) => void): void {
    try {
      this.stream = this.begin();
      callback();
    } catch (error) {
      callback(error instanceof Error ? error : new Error(String(error)));
    }
  }

  override _read(): void {
    this.idle.start();
    this.inbound.want();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.idle.stop();
    this.stream?.reset('CANCELLED', 'not wanted any more');
    callback(error);
  }
}
