import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { defined } from '../../../domain/defined.ts';
import { type GuestKind, guestKindKey, guestKindOf, resourcesOf } from '../../../domain/guest-kind.ts';

const FIELDS = ['imageDigest', 'vcpus', 'memMib', 'diskMib', 'projectId'] as const;
type Fields = Pick<GuestKind, 'imageDigest' | 'vcpus' | 'memMib'> &
  Record<'diskMib', number | undefined> &
  Record<'projectId', string | undefined>;

const size = fc.integer({ min: 1, max: 3 });
const fields: fc.Arbitrary<Fields> = fc.record({
  imageDigest: fc.constantFrom('a', 'b'),
  vcpus: size,
  memMib: size,
  diskMib: fc.option(size, { nil: undefined }),
  projectId: fc.option(fc.string(), { nil: undefined }),
});

function kindFrom({ imageDigest, vcpus, memMib, diskMib, projectId }: Fields): GuestKind {
  const resources = { vcpus, memMib, ...defined({ diskMib }) };
  return guestKindOf({ imageDigest, resources, projectId });
}

describe('a kind of guest', () => {
  it('has one text, which no kind has that differs in anything', () => {
    fc.assert(
      fc.property(fields, fields, fc.constantFrom(...FIELDS), (one, another, field) => {
        const changed = { ...one, [field]: another[field] };
        const isSame = guestKindKey(kindFrom(changed)) === guestKindKey(kindFrom(one));
        expect(isSame).toBe(another[field] === one[field]);
      }),
    );
  });

  it('is the same again by its resources', () => {
    fc.assert(
      fc.property(fields, (given) => {
        const kind = kindFrom(given);
        const { imageDigest, projectId } = kind;
        expect(guestKindOf({ imageDigest, resources: resourcesOf(kind), projectId })).toEqual(kind);
      }),
    );
  });
});
