import { once } from 'node:events';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { isRangeOf, partOf, rangeOf } from '../../../../gateway/sessions/byte-range.ts';

it.each([
  [undefined, undefined],
  ['', undefined],
  ['bytes=-', undefined],
  ['bytes=5-2', undefined],
  ['bytes=0-1,3-4', undefined],
  ['items=0-1', undefined],
  ['bytes=a-b', undefined],
  ['bytes=0-', [0, 10]],
  ['bytes=0-0', [0, 1]],
  ['bytes=3-5', [3, 6]],
  ['bytes=3-99', [3, 10]],
  ['bytes=-3', [7, 10]],
  ['bytes=-99', [0, 10]],
  ['bytes=9-', [9, 10]],
  ['bytes=3-9007199254740991', [3, 10]],
  [`bytes=3-${'9'.repeat(400)}`, [3, 10]],
  [`bytes=-${'9'.repeat(400)}`, [0, 10]],
])('%s of ten bytes is %s', (header, expected) => {
  const range = rangeOf(header, 10);
  expect(range && [range.from, range.to]).toEqual(expected);
});

it.each(['bytes=10-', 'bytes=10-20', 'bytes=-0', 'bytes=999999999999999-', `bytes=${'9'.repeat(400)}-`])(
  '%s has none of ten bytes',
  (header) => {
    expect(() => rangeOf(header, 10)).toThrow('10 bytes');
  },
);

it('an empty file has no range', () => {
  expect(() => rangeOf('bytes=0-', 0)).toThrow('0 bytes');
  expect(rangeOf(undefined, 0)).toBeUndefined();
});

it('a part of a content closes it, read to the end or not', async () => {
  const content = () => Readable.from([Buffer.alloc(10), Buffer.alloc(10), Buffer.alloc(10)], { objectMode: false });
  const read = content();
  await buffer(partOf(read, { from: 2, to: 5 }));
  if (!read.closed) await once(read, 'close');
  expect(read.readableEnded).toBe(false);
  const left = content();
  const part = partOf(left, { from: 2, to: 25 });
  part.destroy();
  if (!left.closed) await once(left, 'close');
  expect(left.destroyed).toBe(true);
});

it.each([
  [undefined, '"a"', true],
  ['"a"', '"a"', true],
  ['"b"', '"a"', false],
  ['W/"a"', '"a"', false],
  ['Thu, 01 Jan 1970 00:00:00 GMT', '"a"', false],
  ['"a"', undefined, false],
  [undefined, undefined, true],
])('If-Range %s, of a file with the tag %s: %s', (header, etag, expected) => {
  expect(isRangeOf(header, etag)).toBe(expected);
});

it('a part of a content is that part, however it arrives, and its rest is not read', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 20 })), fc.nat(60), fc.nat(60), async (chunks, a, b) => {
      const all = Buffer.concat(chunks);
      const [from, to] = [Math.min(a, b), Math.max(a, b)];
      let read = 0;
      const content = Readable.from(
        (function* () {
          for (const chunk of chunks) {
            read += chunk.length;
            yield Buffer.from(chunk);
          }
        })(),
        { objectMode: false, highWaterMark: 1 },
      );
      const part = await buffer(partOf(content, { from, to }));
      expect(part.equals(all.subarray(from, to))).toBe(true);
      // One chunk may have been read ahead.
      expect(read).toBeLessThanOrEqual(to + 60);
    }),
  );
});
