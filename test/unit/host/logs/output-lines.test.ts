import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_LOG_MESSAGE } from '../../../../domain/logs/log-entry.ts';
import { ByteLines, LINE_GOES_ON, logLines, MAX_LINE_BYTES, safeText } from '../../../../host/logs/output-lines.ts';

const CONTROL = /[\0-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]/;

describe('safe text', () => {
  it.each([
    ['\x1b[31mred\x1b[0m', 'red'],
    ['bell\x07', 'bell\\x07'],
    ['tab\tstays', 'tab\tstays'],
    ['over\rwrite', 'over\\x0dwrite'],
    ['nul\0', 'nul\\x00'],
    ['line\u2028end', 'line\\u2028end'],
    ['half \ud83d pair', 'half \ufffd pair'],
    ['grün 😀', 'grün 😀'],
  ])('%j', (raw, safe) => expect(safeText(raw)).toBe(safe));

  it('never holds a control character, whatever came', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const safe = safeText(text);
        expect(CONTROL.test(safe)).toBe(false);
        expect(safe.isWellFormed()).toBe(true);
      }),
    );
  });
});

describe('messages as lines', () => {
  it('cuts at line ends and at the longest message', () => {
    expect(logLines('a\r\nb\n')).toEqual(['a', 'b']);
    expect(logLines('')).toEqual(['']);
    expect(logLines('x'.repeat(MAX_LOG_MESSAGE))).toEqual(['x'.repeat(MAX_LOG_MESSAGE)]);
    const [first = '', ...rest] = logLines('x'.repeat(MAX_LOG_MESSAGE + 1));
    expect([first.length, first.endsWith(LINE_GOES_ON)]).toEqual([MAX_LOG_MESSAGE, true]);
    expect(rest).toEqual(['x'.repeat(LINE_GOES_ON.length + 1)]);
  });

  it('never cuts a character in two', () => {
    const lines = logLines(`x${'😀'.repeat(MAX_LOG_MESSAGE)}`);
    expect(lines.every((line) => line.isWellFormed() && line.length <= MAX_LOG_MESSAGE)).toBe(true);
    expect(lines.join('').replaceAll(LINE_GOES_ON, '')).toBe(`x${'😀'.repeat(MAX_LOG_MESSAGE)}`);
  });
});

describe('bytes to lines', () => {
  const all = (chunks: readonly Buffer[], maxBytes: number): string[] => {
    const lines = new ByteLines(maxBytes);
    const found = chunks.flatMap((chunk) => lines.push(chunk));
    const last = lines.end();
    return last === undefined ? found : [...found, last];
  };

  it('the lines do not depend on how the bytes were cut', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.array(fc.nat(199), { maxLength: 20 }), (bytes, cuts) => {
        const data = Buffer.from(bytes);
        const points = [0, ...cuts.filter((cut) => cut < data.length).sort((a, b) => a - b), data.length];
        const chunks = points.slice(1).map((end, index) => data.subarray(points[index], end));
        expect(all(chunks, 64)).toEqual(all([data], 64));
      }),
    );
  });

  it('holds no more than allowed, and loses nothing of an endless line', () => {
    const lines = new ByteLines(10);
    const found = lines.push(Buffer.from('a'.repeat(35)));
    expect(found).toEqual(Array(3).fill(`${'a'.repeat(10)}${LINE_GOES_ON}`));
    expect(lines.held).toBe(5);
    expect(lines.end()).toBe('aaaaa');
    expect(lines.end()).toBeUndefined();
  });

  it('a piece with its mark is one message', () => {
    const [piece = ''] = new ByteLines().push(Buffer.from('a'.repeat(MAX_LINE_BYTES + 1)));
    expect(logLines(piece)).toEqual([piece]);
  });

  it('makes bytes that are no text visible, and joins characters that came in two pieces', () => {
    expect(all([Buffer.from([0xff, 0x41, 0x0a])], 64)).toEqual(['\ufffdA']);
    expect(all([Buffer.from([0xc3]), Buffer.from([0xa4, 0x0d, 0x0a])], 64)).toEqual(['ä']);
  });
});
