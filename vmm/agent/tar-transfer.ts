import { Readable } from 'node:stream';
import { KilnError } from '../../domain/failures.ts';
import { InboundQueue } from './inbound-queue.ts';
import { tarReceived } from './messages.ts';
import type { Mux } from './mux.ts';
import { parseReply } from './mux.ts';
import type { MuxStream } from './mux-stream.ts';

/**
 * Sends a tar to be unpacked below `path`. Ends the transfer where the source fails.
 * @returns bytes of the tar as the guest counted them.
 * @throws SPEC_INVALID on an archive that would leave the path, DISK_FULL, AGENT_LOST, or the error of the source.
 */
export async function putTar(mux: Mux, path: string, tar: Readable): Promise<{ bytes: number }> {
  let stream: MuxStream | undefined;
  const answer = new Promise<{ bytes: number }>((resolve, reject) => {
    stream = mux.open(
      { kind: 'tar-in', path },
      { done: (payload) => parseReply(tarReceived, payload, resolve, reject), failed: reject },
    );
  });
  // Asked for below; a refusal that comes while the source is read must not count as unhandled.
  answer.catch(() => {});
  if (stream === undefined) return answer;
  try {
    for await (const chunk of tar) {
      if (stream.over) break;
      await stream.send(toBuffer(chunk));
    }
  } catch (error) {
    if (!stream.over) {
      stream.reset('CANCELLED', 'the source of the archive failed');
      throw error;
    }
  }
  stream.end();
  return answer;
}

function toBuffer(chunk: unknown): Buffer {
  if (Buffer.isBuffer(chunk)) return chunk;
  if (chunk instanceof Uint8Array) return Buffer.from(chunk);
  if (typeof chunk === 'string') return Buffer.from(chunk);
  throw new KilnError('INTERNAL', 'a tar stream must give bytes');
}

/** @returns the tar of `paths` below `root`; it fails with what the guest refused with, or AGENT_LOST. */
export function getTar(mux: Mux, root: string, paths: readonly string[], exclude: readonly string[]): Readable {
  return new TarReadable(mux, root, Buffer.from(JSON.stringify({ paths, exclude })));
}

class TarReadable extends Readable {
  readonly #inbound = new InboundQueue(
    (chunk) => this.push(chunk),
    (bytes) => this.#stream?.grant(bytes),
  );
  readonly #begin: () => MuxStream;
  #stream: MuxStream | undefined;

  constructor(mux: Mux, root: string, body: Buffer) {
    super();
    this.#begin = () => {
      const stream = mux.open(
        { kind: 'tar-out', path: root, bodyBytes: body.length },
        {
          data: (payload) => this.#inbound.add(payload),
          done: () => this.#inbound.end(),
          failed: (error) => this.destroy(error),
        },
      );
      stream.send(body).catch((error: Error) => this.destroy(error));
      return stream;
    };
  }

  override _construct(callback: (error?: Error | null) => void): void {
    try {
      this.#stream = this.#begin();
      callback();
    } catch (error) {
      callback(error instanceof Error ? error : new Error(String(error)));
    }
  }

  override _read(): void {
    this.#inbound.want();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#stream?.reset('CANCELLED', 'not wanted any more');
    callback(error);
  }
}
