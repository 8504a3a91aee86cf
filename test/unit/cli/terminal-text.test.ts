import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { columnsOf, fit as cutTo, plainText, wrap } from '../../../cli/terminal/terminal-text.ts';
import { textColumns } from '../../../cli/terminal/text-columns.ts';

const text = fc.string({ unit: 'grapheme', maxLength: 60 }).map(plainText);

describe('columns of a text', () => {
  it.each([
    ['', 0],
    ['abc', 3],
    ['größer', 6],
    ['e\u0301', 1],
    ['日本', 4],
    ['한', 2],
    ['👩‍💻', 2],
    ['✓ ✗ ● ■ → — … ·', 15],
  ])('%j takes %i', (given, columns) => expect(columnsOf(given)).toBe(columns));

  it('make tables straight whatever is in them', () => {
    expect(
      textColumns(
        ['ID', 'NAME'],
        [
          ['日本', 'x'],
          ['e\u0301', 'y'],
        ],
      ),
    ).toEqual(['ID    NAME', '日本  x', 'e\u0301     y']);
  });
});

describe('a text that is cut', () => {
  it('takes no more than it may, and all of it where it may', () => {
    fc.assert(
      fc.property(text, fc.integer({ min: 0, max: 70 }), (given, columns) => {
        const cut = cutTo(given, columns);
        expect(columnsOf(cut)).toBeLessThanOrEqual(columns);
        if (columnsOf(given) <= columns) expect(cut).toBe(given);
        else if (columns > 0) expect(cut.endsWith('…') && given.startsWith(cut.slice(0, -1))).toBe(true);
      }),
    );
  });

  it('is not cut inside of a character', () => {
    expect(cutTo('a👩‍💻b', 3)).toBe('a…');
    expect(cutTo('ae\u0301bc', 3)).toBe('ae\u0301…');
  });

  it('takes no more in each of its lines, and no more lines', () => {
    fc.assert(
      fc.property(text, fc.integer({ min: 3, max: 30 }), fc.integer({ min: 1, max: 5 }), (given, columns, lines) => {
        const wrapped = wrap(given, columns, lines);
        expect(wrapped.length).toBeLessThanOrEqual(lines);
        for (const line of wrapped) expect(columnsOf(line)).toBeLessThanOrEqual(columns);
      }),
    );
  });
});
