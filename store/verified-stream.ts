/** Bytes of the store, counted and hashed while they are read. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { KilnError, messageOf } from '../domain/failures.ts';

/**
 * @param expected length and, where known, sha256 (hex) of the whole
 * @returns a stream of the same bytes that fails with IMAGE_CORRUPT before its end where they are not as expected,
 *   and with STORE_UNAVAILABLE where the connection broke.
 */
export function verifiedStream(key: string, body: Readable, expected: { bytes: number; sha256?: string }): Readable {
  return Readable.from(verified(key, body, expected), { objectMode: false });
}

async function* verified(key: string, body: Readable, expected: { bytes: number; sha256?: string }) {
  const hash = createHash('sha256');
  let bytes = 0;
  try {
    for await (const chunk of body) {
      const data: Buffer = chunk;
      bytes += data.length;
      hash.update(data);
      yield data;
    }
  } catch (error) {
    const reason = messageOf(error);
    throw new KilnError(
      'STORE_UNAVAILABLE',
      `The connection to the object store broke while ${key} was read: ${reason}`,
      { key },
      error,
    );
  }
  const sha256 = hash.digest('hex');
  if (bytes !== expected.bytes) throw corrupt(key, `${bytes} bytes instead of ${expected.bytes}`);
  if (expected.sha256 !== undefined && sha256 !== expected.sha256) {
    throw corrupt(key, `sha256 ${sha256} instead of ${expected.sha256}`);
  }
}

/** Reads a stream to its end. @throws PAYLOAD_TOO_LARGE beyond `maxBytes` */
export async function bytesOf(key: string, stream: Readable, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream) {
    const data: Buffer = chunk;
    bytes += data.length;
    if (bytes > maxBytes)
      throw new KilnError('PAYLOAD_TOO_LARGE', `The object ${key} is larger than ${maxBytes} bytes.`, { key });
    chunks.push(data);
  }
  return Buffer.concat(chunks, bytes);
}

/** @returns length and SHA-256 (hex) of a file, or of bytes in memory */
export async function digestOf(
  source: { readonly path: string } | { readonly data: Buffer },
): Promise<{ readonly sha256: string; readonly bytes: number }> {
  const hash = createHash('sha256');
  if ('data' in source) return { sha256: hash.update(source.data).digest('hex'), bytes: source.data.length };
  const { size } = await stat(source.path);
  for await (const chunk of createReadStream(source.path)) hash.update(chunk);
  return { sha256: hash.digest('hex'), bytes: size };
}

/** In Node the client answers with a Node stream; its type also covers browsers. */
export function readable(body: unknown): Readable {
  if (body instanceof Readable) return body;
  throw new KilnError('INTERNAL', 'The S3 client answered without a stream.');
}

function corrupt(key: string, what: string): KilnError {
  return new KilnError('IMAGE_CORRUPT', `The object ${key} has ${what}; it was damaged in the store or on the way.`, {
    key,
  });
}
