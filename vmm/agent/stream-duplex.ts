import { Duplex } from 'node:stream';
import { defined } from '../../domain/defined.ts';
import type { KilnError } from '../../domain/failures.ts';
import { InboundQueue } from './inbound/inbound-queue.ts';
import { GuestRefusal } from './messages.ts';
import type { MuxStream, StreamHandler } from './mux-stream.ts';

/**
 * A TCP connection of the guest as a Node stream. Each direction ends independently; a reset from the guest is an error
 * with code ECONNRESET here, and `destroy` here is a reset there.
 */
export class StreamDuplex extends Duplex {
  private stream: MuxStream | undefined;
  private readonly inbound = new InboundQueue(
    (chunk) => this.push(chunk),
    (bytes) => this.stream?.grant(bytes),
  );

  constructor() {
    super({ allowHalfOpen: true });
    // A guest may reset a connection at the moment it is made, before its new owner can listen: that must not
    // end the process. A reader or writer still gets the error.
    this.on('error', () => {});
  }

  /** Handlers for the channel's events; the caller handles `opened` itself. */
  handler(opened?: StreamHandler['opened'], failedBefore?: (error: KilnError) => boolean): StreamHandler {
    return {
      ...defined({ opened }),
      data: (payload) => this.inbound.add(payload),
      end: () => this.inbound.end(),
      failed: (error) => {
        if (failedBefore?.(error) !== true) this.destroy(connectionError(error));
      },
    };
  }

  carry(stream: MuxStream): void {
    this.stream = stream;
  }

  override _read(): void {
    this.inbound.want();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    const sent = this.stream?.send(chunk) ?? Promise.reject(new Error('not connected'));
    sent.then(
      () => callback(),
      (error: Error) => callback(error),
    );
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.stream?.end();
    callback();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.stream?.reset('ECONNRESET', 'closed by the other side');
    callback(error);
  }
}

function connectionError(error: KilnError): Error {
  if (!(error instanceof GuestRefusal)) return error;
  return Object.assign(new Error('The guest reset the connection.', { cause: error }), { code: 'ECONNRESET' });
}
