import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { jsonOrUndefined } from '../../../domain/json-or-undefined.ts';

describe('a text that may be JSON', () => {
  it('says what it was written from', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        expect(jsonOrUndefined(text)).toEqual(JSON.parse(text));
      }),
    );
  });

  it('says nothing where it is none, and never throws', () => {
    for (const text of ['', '{', 'undefined', "{'a': 1}", '[1]]']) expect(jsonOrUndefined(text)).toBeUndefined();
    fc.assert(fc.property(fc.string(), (text) => void jsonOrUndefined(text)));
  });
});
