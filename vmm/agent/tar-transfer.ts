import type { Readable } from 'node:stream';
import { KilnError } from '../../domain/failures.ts';
import { IdleWatch } from './inbound/idle-watch.ts';
import { InboundReadable } from './inbound/inbound-readable.ts';
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
  const idle = new IdleWatch('An archive', idleMs, (reason) => sent.reset('TIMED_OUT', reason));
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
  const body = Buffer.from(JSON.stringify(wanted));
  let left = limits.maxBytes;
  return new InboundReadable({
    what: 'An archive',
    idleMs: limits.idleMs,
    open: (sink) => {
      const add = (payload: Buffer) => {
        left -= payload.length;
        if (left >= 0) sink.add(payload);
        else sink.fail(tooLarge(limits.maxBytes));
      };
      const stream = mux.open(
        { kind: 'tar-out', path: root, bodyBytes: body.length },
        { data: add, done: () => sink.end(), failed: (error) => sink.fail(error) },
      );
      stream.send(body).catch((error: Error) => sink.fail(error));
      return stream;
    },
  });
}

function tooLarge(maxBytes: number): KilnError {
  return new KilnError('PAYLOAD_TOO_LARGE', `The archive from the guest is larger than ${maxBytes} bytes.`);
}
