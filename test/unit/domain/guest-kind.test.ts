import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type GuestKind, guestKindKey, guestKindOf, resourcesOf } from '../../../domain/guest-kind.ts';

const sizes = fc.integer({ min: 1, max: 3 });
const kinds: fc.Arbitrary<GuestKind> = fc
  .record(
    { imageDigest: fc.constantFrom('a', 'b'), vcpus: sizes, memMib: sizes, diskMib: sizes, projectId: fc.string() },
    { requiredKeys: ['imageDigest', 'vcpus', 'memMib'] },
  )
  .map(({ diskMib, projectId, ...rest }) => ({
    ...rest,
    ...(diskMib === undefined ? {} : { diskMib }),
    ...(projectId === undefined ? {} : { projectId }),
  }));

describe('a kind of guest', () => {
  it('has one text, which no other kind has', () => {
    fc.assert(
      fc.property(kinds, kinds, (a, b) => {
        const isSame = (['imageDigest', 'vcpus', 'memMib', 'diskMib', 'projectId'] as const).every(
          (field) => a[field] === b[field],
        );
        expect(guestKindKey(a) === guestKindKey(b)).toBe(isSame);
      }),
    );
  });

  it('is the same again by its resources', () => {
    fc.assert(
      fc.property(kinds, (kind) => {
        const { imageDigest, projectId } = kind;
        expect(guestKindOf({ imageDigest, resources: resourcesOf(kind), projectId })).toEqual(kind);
      }),
    );
  });
});
