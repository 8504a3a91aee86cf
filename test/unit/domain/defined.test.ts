import fc from 'fast-check';
import { describe, expect, expectTypeOf, it } from 'vitest';
import { defined } from '../../../domain/defined.ts';

describe('the fields that are defined', () => {
  it('are all others, in their order', () => {
    const fields = fc.dictionary(
      fc.string(),
      fc.oneof(fc.constant(undefined), fc.constantFrom(null, false, 0, '', 'x', [])),
    );
    fc.assert(
      fc.property(fields, (given) => {
        const wanted = Object.entries(given).filter(([, value]) => value !== undefined);
        expect(Object.entries(defined(given))).toEqual(wanted);
      }),
    );
  });

  it('have the types that an object of optional fields takes', () => {
    const signal: AbortSignal | undefined = new AbortController().signal;
    const some = (): string | undefined => undefined;
    const found = defined({ id: 1, name: some(), signal });
    expectTypeOf(found.id).toEqualTypeOf<number>();
    const strict: { id: number; name?: string; signal?: AbortSignal } = found;
    expect('name' in strict).toBe(false);
    expect(strict.signal).toBe(signal);
  });
});
