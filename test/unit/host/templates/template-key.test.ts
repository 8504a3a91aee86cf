import { describe, expect, it } from 'vitest';
import { kindOf, storedKey, templateKeyHash } from '../../../../host/templates/template-key.ts';

const PLAIN = { imageDigest: `sha256:${'a'.repeat(64)}`, vcpus: 1, memMib: 512 };
const FULL = { ...PLAIN, diskMib: 64, projectId: 'p' };

describe('the key of a template', () => {
  it('is read as the kind of guest that it was written for', () => {
    for (const kind of [PLAIN, FULL]) expect(kindOf({ key: storedKey(kind, 'reflink') })).toEqual(kind);
  });

  it('names templates as earlier versions did, so that theirs are found', () => {
    expect(templateKeyHash(PLAIN, 'qcow2-overlay')).toBe('b99ea7912e0ecb1d');
    expect(templateKeyHash(FULL, 'qcow2-overlay')).toBe('e746ea1144aaaa45');
  });
});
