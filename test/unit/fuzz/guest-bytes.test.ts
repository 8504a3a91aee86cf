import fc from 'fast-check';
import { describe, it } from 'vitest';
import { FUZZ_TARGETS } from '../../fuzz/guest-bytes.ts';

describe('bytes of a guest', () => {
  it.each(FUZZ_TARGETS)('$name', async ({ property, runs }) => {
    await fc.assert(property, { numRuns: runs });
  });
});
