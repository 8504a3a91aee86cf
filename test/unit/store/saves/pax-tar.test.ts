/** Headers of tars, as another library reads them. */
import { extract } from 'tar-stream';
import { expect, it } from 'vitest';
import { type TarEntry, tarHeaderOf } from '../../../../store/sessions/saves/pax-tar.ts';

const plain: TarEntry = { type: 'file', name: './f', mode: 0o644, uid: 0, gid: 0, size: 0, mtimeNs: 0n };

/** @returns the attributes of a header, as pairs of bytes */
function attributesOf(header: Buffer): Map<string, string> {
  const bytes = Number.parseInt(header.toString('latin1', 124, 135), 8);
  const found = new Map<string, string>();
  for (let at = 512; at < 512 + bytes; ) {
    const length = Number(header.toString('latin1', at, header.indexOf(' ', at)));
    const line = header.subarray(header.indexOf(' ', at) + 1, at + length - 1).toString('latin1');
    expect(header[at + length - 1]).toBe(10);
    found.set(line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1));
    at += length;
  }
  return found;
}

/** @returns a number of the plain header behind the attributes */
const fieldOf = (header: Buffer, at: number, digits: number) =>
  Number.parseInt(header.toString('latin1', header.length - 512 + at, header.length - 512 + at + digits), 8);

it.each([
  [-1n, '-0.000000001'],
  [-500_000_000n, '-0.500000000'],
  [-1_500_000_000n, '-1.500000000'],
  [1_700_000_000_123_456_789n, '1700000000.123456789'],
  [99_999_999_999_999_999_999n, '99999999999.999999999'],
])('a time of %s ns is %s s', async (mtimeNs, expected) => {
  const header = tarHeaderOf({ ...plain, mtimeNs });
  expect(attributesOf(header).get('mtime')).toBe(expected);
  // The plain field has room for neither: what is nearest.
  expect(fieldOf(header, 136, 11)).toBe(Math.min(8 ** 11 - 1, Math.max(0, Number(mtimeNs / 1_000_000_000n))));
});

it('owners that no plain field has room for are in the attributes', () => {
  const header = tarHeaderOf({ ...plain, uid: 4_294_967_294, gid: 3_000_000 });
  const found = attributesOf(header);
  expect([found.get('uid'), found.get('gid')]).toEqual(['4294967294', '3000000']);
  expect([fieldOf(header, 108, 7), fieldOf(header, 116, 7)]).toEqual([8 ** 7 - 1, 8 ** 7 - 1]);
});

it('a size from 8 GiB on is in the attributes, with the plain field full', async () => {
  const size = 8 * 1024 ** 3 + 1;
  const header = tarHeaderOf({ ...plain, size });
  expect(attributesOf(header).get('size')).toBe(String(size));
  expect(fieldOf(header, 124, 11)).toBe(8 ** 11 - 1);
  const reader = extract();
  reader.on('error', () => undefined);
  const read = new Promise((resolve) => reader.on('entry', (one) => resolve(one.size)));
  reader.write(header);
  expect(await read).toBe(size);
  reader.destroy();
});

it('attributes have their values, byte by byte, and names that no reader takes apart', () => {
  const value = Buffer.from([0, 10, 61, 255, 32]);
  const xattrs = { 'user.a=b': value.toString('base64'), 'user.50%25': '', 'user.n\nl': 'AA==' };
  const found = attributesOf(tarHeaderOf({ ...plain, xattrs }));
  expect(found.get('SCHILY.xattr.user.a%3Db')).toBe(value.toString('latin1'));
  expect(found.get('SCHILY.xattr.user.50%2525')).toBe('');
  expect(found.get('SCHILY.xattr.user.n\nl')).toBe('\0');
});

it('the length of an attribute counts its own digits, around each power of ten', () => {
  for (let length = 1; length < 1100; length++) {
    const name = 'n'.repeat(length);
    expect(attributesOf(tarHeaderOf({ ...plain, name })).get('path')).toBe(name);
  }
});
