/** What a guest says of its files, which may be anything. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isKilnError } from '../../../../domain/failures.ts';
import { parseListing, parseLook } from '../../../../host/files/guest-answers.ts';

describe('the look at a file', () => {
  it('says what it is, and where it really is', () => {
    expect(parseLook(Buffer.from('81a4 12 1700000000.250\n/workspace/a b\nc\0'))).toEqual({
      kind: 'file',
      bytes: 12,
      modifiedAt: '2023-11-14T22:13:20.250Z',
      realPath: 'a b\nc',
    });
    expect(parseLook(Buffer.from('41ed 4096 0\n/workspace\0')).realPath).toBe('');
    expect(parseLook(Buffer.from('21b6 0 -5.5\n/workspace/dev\0'))).toMatchObject({
      kind: 'other',
      modifiedAt: '1970-01-01T00:00:00.000Z',
    });
  });

  it.each(['/etc/passwd', '/workspace2/x', '/', '/work'])('%s is outside', (path) => {
    expect(() => parseLook(Buffer.from(`81a4 1 1\n${path}\0`))).toThrow(
      expect.objectContaining({ code: 'SPEC_INVALID' }),
    );
  });
});

describe('a listing', () => {
  it('is in the order of names, whatever they hold; what is cut is left out', () => {
    const text = 'f\x001\x001.5\0b\nb\0d\x004096\x002\0a\0l\x003\x003\0c\0f\x001\0';
    expect(parseListing(Buffer.from(text))).toEqual([
      { name: 'a', kind: 'folder', bytes: 4096, modifiedAt: '1970-01-01T00:00:02.000Z' },
      { name: 'b\nb', kind: 'file', bytes: 1, modifiedAt: '1970-01-01T00:00:01.500Z' },
      { name: 'c', kind: 'link', bytes: 3, modifiedAt: '1970-01-01T00:00:03.000Z' },
    ]);
    expect(parseListing(Buffer.alloc(0))).toEqual([]);
  });
});

it('whatever else a guest says is refused with a code', () => {
  const piece = fc.constantFrom('f', '\0', '\n', '81a4 ', '12 ', '1e9', '/workspace/', 'x', '-', '\ufffd');
  const texts = fc.oneof(
    fc.string(),
    fc.array(piece).map((pieces) => pieces.join('')),
  );
  fc.assert(
    fc.property(texts, (text) => {
      for (const parse of [parseLook, parseListing]) {
        try {
          parse(Buffer.from(text));
        } catch (error) {
          expect(isKilnError(error, 'AGENT_PROTOCOL', 'SPEC_INVALID')).toBe(true);
        }
      }
    }),
  );
});
