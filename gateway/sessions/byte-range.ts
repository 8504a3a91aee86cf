/** Parts of contents: `Range` of RFC 9110, one range of bytes. */
import { Readable } from 'node:stream';
import { UnsatisfiableRange } from '../problem-replies.ts';

/** Bytes from `from` up to, not including, `to`. */
export interface ByteRange {
  readonly from: number;
  readonly to: number;
}

/**
 * @param header as it was sent; several ranges, and what is not understood, count as none
 * @param bytes of the whole content; numbers beyond mean its end
 * @returns undefined where the whole content is wanted. @throws UnsatisfiableRange
 */
export function rangeOf(header: string | undefined, bytes: number): ByteRange | undefined {
  const [, first = '', last = ''] = /^bytes=(\d*)-(\d*)$/.exec(header ?? '') ?? [];
  if (first === '' && last === '') return undefined;
  const from = first === '' ? Math.max(0, bytes - Number(last)) : Number(first);
  const to = first === '' || last === '' ? bytes : Math.min(bytes, Number(last) + 1);
  // An end before the begin is no range at all.
  if (first !== '' && last !== '' && Number(last) < from) return undefined;
  if (from >= bytes || (first === '' && Number(last) === 0)) throw new UnsatisfiableRange(bytes);
  return { from, to };
}

/**
 * `If-Range` of RFC 9110.
 * @param etag of the content as it is now; absent: it has none
 * @returns whether a range is of the content that the caller has a part of
 */
export function isRangeOf(ifRange: string | readonly string[] | undefined, etag: string | undefined): boolean {
  return ifRange === undefined || ifRange === etag;
}

/** @returns a part of a content, which is read up to its end; what comes after it is not waited for */
export function partOf(content: Readable, { from, to }: ByteRange): Readable {
  const part = Readable.from(bytesWithin(content, { from, to }), { objectMode: false });
  part.once('close', () => content.destroy());
  return part;
}

async function* bytesWithin(content: Readable, { from, to }: ByteRange): AsyncGenerator<Buffer, undefined> {
  let at = 0;
  for await (const chunk of content) {
    const data: Buffer = chunk;
    const part = data.subarray(Math.max(0, from - at), Math.max(0, to - at));
    at += data.length;
    if (part.length > 0) yield part;
    if (at >= to) return undefined;
  }
  return undefined;
}
