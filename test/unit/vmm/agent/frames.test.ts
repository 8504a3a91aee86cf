import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isKilnError } from '../../../../domain/failures.ts';
import {
  encodeFrame,
  encodeHelloRecord,
  FRAME,
  type Frame,
  FrameReader,
  MAX_PAYLOAD,
} from '../../../../vmm/agent/frames.ts';

const frames = fc.array(
  fc.record({
    type: fc.constantFrom(...Object.values(FRAME)),
    stream: fc.integer({ min: 0, max: 0xffff_ffff }),
    payload: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  }),
  { maxLength: 20 },
);

const encode = (list: readonly Frame[]): Buffer =>
  Buffer.concat(list.map(({ type, stream, payload }) => encodeFrame(type, stream, payload)));

/** Pushes the bytes in pieces of the given sizes, repeated as needed. */
function pushInPieces(reader: FrameReader, bytes: Buffer, sizes: readonly number[]): Frame[] {
  const seen: Frame[] = [];
  for (let at = 0, n = 0; at < bytes.length; n += 1) {
    const size = sizes[n % sizes.length] ?? 1;
    seen.push(...reader.push(bytes.subarray(at, at + size)));
    at += size;
  }
  return seen;
}

const pieceSizes = fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 8 });

describe('frames of the agent channel', () => {
  it('come back as they were, however the bytes are cut', () => {
    fc.assert(
      fc.property(frames, pieceSizes, (list, sizes) => {
        expect(pushInPieces(new FrameReader(), encode(list), sizes)).toEqual(list);
      }),
    );
  });

  it('begin right behind the hello of this attach, whatever came before', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), frames, pieceSizes, (noise, list, sizes) => {
        const nonce = randomBytes(16);
        const stale = encodeHelloRecord(randomBytes(16));
        const bytes = Buffer.concat([noise, stale, encode(list), encodeHelloRecord(nonce), encode(list)]);
        expect(pushInPieces(new FrameReader(nonce), bytes, sizes)).toEqual(list);
      }),
    );
  });

  it('any bytes give frames or AGENT_PROTOCOL, nothing else', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 2000 }), pieceSizes, frames, (noise, sizes, list) => {
        const seen: Frame[] = [];
        try {
          seen.push(...pushInPieces(new FrameReader(), Buffer.concat([encode(list), noise]), sizes));
        } catch (error) {
          if (!isKilnError(error, 'AGENT_PROTOCOL')) throw error;
        }
        expect(seen.every(({ payload }) => payload.length <= MAX_PAYLOAD)).toBe(true);
      }),
    );
  });

  it('has the largest frame and none larger', () => {
    const payload = randomBytes(MAX_PAYLOAD);
    expect(new FrameReader().push(encodeFrame(FRAME.data, 1, payload))).toEqual([
      { type: FRAME.data, stream: 1, payload },
    ]);
    expect(() => encodeFrame(FRAME.data, 1, randomBytes(MAX_PAYLOAD + 1))).toThrow(
      expect.objectContaining({ code: 'INTERNAL' }),
    );
  });

  it.each([
    ['a length beyond the limit', Buffer.from([0, 0, 0x80, 0])],
    ['a length below the least', Buffer.from([0, 0, 0, 5])],
    ['an unknown type', Buffer.from([0, 0, 0, 6, 99, 0, 0, 0, 0, 0])],
    ['no end mark', Buffer.from([0, 0, 0, 6, 1, 0, 0, 0, 0, 0xff])],
  ])('%s is AGENT_PROTOCOL', (_what, bytes) => {
    expect(() => new FrameReader().push(bytes)).toThrow(expect.objectContaining({ code: 'AGENT_PROTOCOL' }));
  });
});
