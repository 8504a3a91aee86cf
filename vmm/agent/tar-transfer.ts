import { Readable } from 'node:stream';
import { KilnError } from '../../domain/failures.ts';
import { InboundQueue } from './inbound-queue.ts';
import { tarReceived } from './messages.ts';
import type { Mux } from './mux.ts';
import { parseReply } from './mux.ts';
import type { MuxStream } from './mux-stream.ts';

export interface TarLimits {
  /** How long the host waits for a guest that does nothing, ms. */
  readonly idleMs: number;
  /** Largest archive that is taken from a guest. */
  readonly maxBytes: number;
}

/**
 * Sends a tar to be unpacked below `path`. Ends the transfer where the source fails.
 * @returns bytes of the tar as the guest counted them.
 * @throws SPEC_INVALID on an archive that would leave the path, DISK_FULL, AGENT_TIMEOUT, AGENT_LOST, or the error of
 *   the source.
 */
export async function putTar(mux: Mux, path: string, tar: Readable, { idleMs }: TarLimits): Promise<{ bytes: number }> {
  let stream: MuxStream | undefined;
  const answer = new Promise<{ bytes: number }>((resolve, reject) => {
    stream = mux.open(
      { kind: 'tar-in', path },
      { done: (payload) => parseReply(tarReceived, payload, resolve, reject), failed: reject },
    );
  });
  // Awaited below; a refusal that comes while the source is read ends the reading.
  answer.catch(() => tar.destroy());
  if (stream === undefined) return answer;
  const sent = stream;
  const idle = new IdleWatch(idleMs, (reason) => sent.reset('TIMED_OUT', reason));
  try {
    for await (const chunk of tar) {
      if (sent.over) break;
      await idle.during(sent.send(toBuffer(chunk)));
    }
  } catch (error) {
    if (idle.expired !== undefined) throw idle.expired;
    if (!sent.over) {
      sent.reset('CANCELLED', 'the source of the archive failed');
      throw error;
    }
  }
  sent.end();
  return idle.during(answer);
}

function toBuffer(chunk: unknown): Buffer {
  if (Buffer.isBuffer(chunk)) return chunk;
  if (chunk instanceof Uint8Array) return Buffer.from(chunk);
  if (typeof chunk === 'string') return Buffer.from(chunk);
  throw new KilnError('INTERNAL', 'a tar stream must give bytes');
}

/** Limits each single wait for the guest. */
class IdleWatch {
  /** Why the wait was given up. */
  expired: KilnError | undefined;
  private readonly ms: number;
  private readonly giveUp: (reason: string) => void;
  private timer: NodeJS.Timeout | undefined;
  private fail: (error: KilnError) => void = () => {};

  constructor(ms: number, giveUp: (reason: string) => void) {
    this.ms = ms;
    this.giveUp = giveUp;
  }

  /** @throws AGENT_TIMEOUT where the work takes too long */
  async during<T>(work: Promise<T>): Promise<T> {
    const expiry = new Promise<never>((_resolve, reject) => {
      this.fail = reject;
    });
    this.start();
    try {
      return await Promise.race([work, expiry]);
    } finally {
      this.stop();
    }
  }

  start(): void {
    this.timer ??= setTimeout(() => {
      this.expired = new KilnError('AGENT_TIMEOUT', `An archive stood still in the guest agent for ${this.ms} ms.`);
      this.fail(this.expired);
      this.giveUp('the archive stands still');
    }, this.ms);
  }

  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }
}

/**
 * @returns the tar of `paths` below `root`; it fails with the guest's refusal, AGENT_TIMEOUT, AGENT_LOST, or
 *   PAYLOAD_TOO_LARGE above the largest size.
 */
export function getTar(
  mux: Mux,
  root: string,
  wanted: { readonly paths: readonly string[]; readonly exclude: readonly string[] },
  limits: TarLimits,
): Readable {
  return new TarReadable(mux, root, Buffer.from(JSON.stringify(wanted)), limits);
}

class TarReadable extends Readable {
  private readonly inbound = new InboundQueue(
    (chunk) => {
      this.idle.stop();
      return this.push(chunk);
    },
    (bytes) => this.stream?.grant(bytes),
  );
  private readonly idle: IdleWatch;
  private left: number;
  private readonly begin: () => MuxStream;
  private stream: MuxStream | undefined;

  constructor(mux: Mux, root: string, body: Buffer, { idleMs, maxBytes }: TarLimits) {
    super();
    this.left = maxBytes;
    this.idle = new IdleWatch(idleMs, () => this.destroy(this.idle.expired));
    this.begin = () => {
      const stream = mux.open(
        { kind: 'tar-out', path: root, bodyBytes: body.length },
        {
          data: (payload) => this.add(payload, maxBytes),
          done: () => this.inbound.end(),
          failed: (error) => this.destroy(error),
        },
      );
      stream.send(body).catch((error: Error) => this.destroy(error));
      return stream;
    };
  }

  override _construct(callback: (error?: Error | null) => void): void {
    try {
      this.stream = this.begin();
      callback();
    } catch (error) {
      callback(error instanceof Error ? error : new Error(String(error)));
    }
  }

  private add(payload: Buffer, maxBytes: number): void {
    this.left -= payload.length;
    if (this.left >= 0) this.inbound.add(payload);
    else
      this.destroy(new KilnError('PAYLOAD_TOO_LARGE', `The archive from the guest is larger than ${maxBytes} bytes.`));
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
