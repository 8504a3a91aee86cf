import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { isErrno } from '../../../linux/errno.ts';

describe('the code of a failed system call', () => {
  it('is one of those asked for, or not', async () => {
    const error: unknown = await readFile('/proc/no-such-file').catch((reason: unknown) => reason);
    expect(isErrno(error, 'ENOENT')).toBe(true);
    expect(isErrno(error, 'ENOTDIR', 'ENOENT')).toBe(true);
    expect(isErrno(error, 'ENOTDIR', 'EACCES')).toBe(false);
    expect(isErrno(error)).toBe(false);
  });

  it('is had by errors only, and not by every one', () => {
    expect(isErrno(new Error('ENOENT'), 'ENOENT')).toBe(false);
    expect(isErrno({ code: 'ENOENT' }, 'ENOENT')).toBe(false);
    expect(isErrno(undefined, 'ENOENT')).toBe(false);
  });
});
