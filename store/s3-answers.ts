/** What the S3 client answers, as the store needs it. */
import { Readable } from 'node:stream';
import { KilnError } from '../domain/failures.ts';

/** @returns the value of a stored document. @throws STORE_CONFLICT where it is no JSON */
export function jsonOf(key: string, data: Buffer): unknown {
  try {
    return JSON.parse(data.toString('utf8'));
  } catch {
    throw new KilnError('STORE_CONFLICT', `The stored document ${key} is no JSON.`, { key });
  }
}

/** In Node the client answers with a Node stream; its type also covers browsers. */
export function readable(body: unknown): Readable {
  if (body instanceof Readable) return body;
  throw new KilnError('INTERNAL', 'The S3 client answered without a stream.');
}
