import { writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { toFailure } from '../../../activities/activity-frame.ts';
import { KilnError } from '../../../domain/failures.ts';

describe('the failure of an activity', () => {
  it('has the code of a KilnError, and is retried where the table of codes says so', () => {
    expect(toFailure(new KilnError('AGENT_LOST', 'gone'))).toMatchObject({ type: 'AGENT_LOST', nonRetryable: false });
    expect(toFailure(new KilnError('CONFIG_INVALID', 'no'))).toMatchObject({
      type: 'CONFIG_INVALID',
      nonRetryable: true,
    });
  });

  it('is DISK_FULL wherever a file did not fit', async () => {
    const error = await writeFile('/dev/full', 'a byte').catch((thrown: unknown) => thrown);
    expect(toFailure(error)).toMatchObject({
      type: 'DISK_FULL',
      nonRetryable: false,
      message: expect.stringContaining('ENOSPC'),
    });
  });

  it('is INTERNAL, with a stack, for what has no code', () => {
    expect(toFailure(new TypeError('not a function'))).toMatchObject({
      type: 'INTERNAL',
      message: 'not a function',
      details: [{ stack: expect.stringContaining('activity-failures') }],
    });
    expect(toFailure('a string')).toMatchObject({ type: 'INTERNAL', message: 'a string' });
  });
});
