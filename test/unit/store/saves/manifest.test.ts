import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_PIECE_BYTES } from '../../../../contracts/store/save-documents.ts';
import {
  createPieceCutter,
  entryOfLine,
  linesOf,
  manifestLine,
  type SavedEntry,
} from '../../../../store/sessions/saves/manifest.ts';
import { chunkId, chunkOf, frameOf } from '../../../../store/sessions/saves/packs.ts';

const byte = fc.integer({ min: 1, max: 255 }).filter((code) => code !== 0x2f);
const name = fc
  .array(byte, { minLength: 1, maxLength: 12 })
  .map((bytes) => Buffer.from(bytes).toString('latin1'))
  .filter((text) => text !== '.' && text !== '..');
const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => names.join('/'));
const owned = {
  path,
  uid: fc.nat(70_000),
  gid: fc.nat(70_000),
  mtimeNs: fc.bigInt({ min: -(10n ** 18n), max: 10n ** 19n }).map(String),
};
const xattrs = fc.dictionary(
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 9 }).map((text) => `user.${text}`),
  fc.base64String({ maxLength: 20 }),
);
const mode = fc.nat(0o7777);
const hex = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString('hex'));
const place = fc.record({
  pack: fc.constantFrom('1-2-3-4', '0-0-0-0'),
  offset: fc.nat(8_000_000),
  length: fc.integer({ min: 1, max: 9999 }),
});
const chunk = fc.oneof(
  fc.record({ id: hex, bytes: fc.integer({ min: 1, max: 1024 * 1024 }), place }),
  fc.record({ id: fc.constant(''), bytes: fc.integer({ min: 1, max: 2 ** 36 }) }),
);
const entry: fc.Arbitrary<SavedEntry> = fc.oneof(
  fc.record({ type: fc.constant('folder' as const), ...owned, mode, xattrs }),
  fc.record({ type: fc.constant('folder' as const), ...owned, mode }),
  fc.record({
    type: fc.constant('file' as const),
    ...owned,
    mode,
    size: fc.nat(),
    chunks: fc.array(chunk, { maxLength: 4 }),
  }),
  fc.record({ type: fc.constant('symlink' as const), ...owned, target: path }),
  fc.record({ type: fc.constant('hardlink' as const), path, target: path }),
);

describe('a manifest', () => {
  it('gives back what was written', () => {
    fc.assert(
      fc.property(fc.array(entry, { minLength: 1, maxLength: 8 }), (entries) => {
        const cutter = createPieceCutter();
        for (const each of entries) cutter.add(each.path, manifestLine(each));
        const lines = linesOf(cutter.end() ?? Buffer.alloc(0));
        expect(lines.map(entryOfLine)).toEqual(entries);
        // What is read and written again is the same, byte for byte: else pieces would never be found again.
        expect(lines.map((line) => manifestLine(entryOfLine(line)))).toEqual(lines.map((line) => `${line}\n`));
      }),
    );
  });

  it.each([
    ['nothing', ''],
    ['no JSON', '{'],
    ['another field', '{"path":"","type":"hardlink","target":"","more":1}'],
    ['another type', '{"path":"","type":"device","target":""}'],
    ['a path outside', JSON.stringify({ path: Buffer.from('../x').toString('base64'), type: 'hardlink', target: '' })],
    [
      'a chunk in no pack',
      '{"path":"","type":"file","mode":0,"uid":0,"gid":0,"mtimeNs":"0","size":1,"chunks":[["ab",1]]}',
    ],
  ])('with a line that is %s is damaged', (_, line) => {
    expect(() => entryOfLine(line)).toThrow(expect.objectContaining({ code: 'SESSION_CORRUPT' }));
  });

  it('that breaks off is damaged', () => {
    expect(() => linesOf(Buffer.from('{"a":1}'))).toThrow(expect.objectContaining({ code: 'SESSION_CORRUPT' }));
  });

  it('has the same pieces but those around a change', () => {
    const piecesOf = (paths: readonly string[]) => {
      const cutter = createPieceCutter();
      const pieces = paths.flatMap((each) => cutter.add(each, `line of ${each}\n`) ?? []);
      return new Set([...pieces, cutter.end()].map(String));
    };
    const paths = Array.from({ length: 20_000 }, (_, n) => `f${String(n).padStart(6, '0')}`);
    const before = piecesOf(paths);
    expect(before.size).toBeGreaterThan(30);
    const after = piecesOf(paths.toSpliced(9_000, 2, 'f0090005', 'f0090006', 'f0090007'));
    expect([...after].filter((piece) => !before.has(piece)).length).toBeLessThanOrEqual(3);
  });

  it('has pieces of bounded length, however long its lines are, and no line that is too long for one', () => {
    const cutter = createPieceCutter();
    for (let n = 0; n < 20; n++) {
      const piece = cutter.add(`f${n}`, 'x'.repeat(200_000));
      if (piece !== undefined) expect(piece.length).toBeLessThan(500_000);
    }
    const add = () => cutter.add('f', 'x'.repeat(MAX_PIECE_BYTES));
    expect(add).toThrow(expect.objectContaining({ code: 'PAYLOAD_TOO_LARGE' }));
  });
});

describe('a chunk', () => {
  const salt = randomBytes(32);

  it.each([1, 1000, 64 * 1024, 64 * 1024 + 1, 1024 * 1024])('of %i bytes is unpacked again', async (bytes) => {
    const data = Buffer.concat([randomBytes(bytes >> 1), Buffer.alloc(bytes - (bytes >> 1))]);
    expect(await chunkOf(await frameOf(data), { id: chunkId(salt, data), bytes }, salt)).toEqual(data);
  });

  it.each([100, 100_000])('of %i bytes that is not what its id names is damaged', async (bytes) => {
    const data = randomBytes(bytes);
    const chunkAs = { id: chunkId(salt, data), bytes };
    const frame = await frameOf(data);
    const isCorrupt = { code: 'SESSION_CORRUPT' };
    await expect(chunkOf(frame.subarray(0, -1), chunkAs, salt)).rejects.toMatchObject(isCorrupt);
    await expect(chunkOf(frame, { ...chunkAs, bytes: bytes - 1 }, salt)).rejects.toMatchObject(isCorrupt);
    await expect(chunkOf(frame, { ...chunkAs, bytes: bytes + 1 }, salt)).rejects.toMatchObject(isCorrupt);
    await expect(chunkOf(await frameOf(randomBytes(bytes)), chunkAs, salt)).rejects.toMatchObject(isCorrupt);
    await expect(chunkOf(frame, chunkAs, randomBytes(32))).rejects.toMatchObject(isCorrupt);
    await expect(chunkOf(randomBytes(50), chunkAs, salt)).rejects.toMatchObject(isCorrupt);
  });
});
