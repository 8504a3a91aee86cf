import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ReplyLines } from '../../../inspection/process/reply-lines.ts';

describe('lines of a process that is not believed', () => {
  it('are the same however they come in pieces', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme' })), fc.array(fc.nat(20)), (texts, cuts) => {
        const wanted = texts.map((text) => text.replaceAll('\n', ''));
        const bytes = Buffer.from(wanted.map((text) => `${text}\n`).join(''));
        const lines = new ReplyLines(1000);
        const found: string[] = [];
        let from = 0;
        for (const cut of [...cuts, bytes.length]) {
          found.push(...lines.push(bytes.subarray(from, from + cut)));
          from += cut;
        }
        expect(found).toEqual(wanted.map((text) => Buffer.from(text).toString()));
      }),
    );
  });

  it('are bounded, finished or not', () => {
    expect(new ReplyLines(3).push(Buffer.from('abc\nabc'))).toEqual(['abc']);
    expect(() => new ReplyLines(3).push(Buffer.from('abcd\n'))).toThrow(RangeError);
    const open = new ReplyLines(3);
    open.push(Buffer.from('ab'));
    expect(() => open.push(Buffer.from('cd'))).toThrow(RangeError);
  });
});
