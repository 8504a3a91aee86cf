import { describe, expect, it } from 'vitest';
import { isFullDisk, isKilnError, KilnError, messageOf } from '../../../domain/failures.ts';

describe('an error with a code', () => {
  const error = new KilnError('NOT_FOUND', 'There is none.');

  it('is known by one of several codes, or as any', () => {
    expect(isKilnError(error)).toBe(true);
    expect(isKilnError(error, 'NOT_FOUND')).toBe(true);
    expect(isKilnError(error, 'CONFLICT', 'NOT_FOUND')).toBe(true);
    expect(isKilnError(error, 'CONFLICT', 'INTERNAL')).toBe(false);
  });

  it('is nothing else', () => {
    expect(isKilnError(new Error('NOT_FOUND'), 'NOT_FOUND')).toBe(false);
    expect(isKilnError({ code: 'NOT_FOUND' }, 'NOT_FOUND')).toBe(false);
  });
});

it('what was thrown says something, whatever it is', () => {
  expect(messageOf(new KilnError('NOT_FOUND', 'There is none.'))).toBe('There is none.');
  expect(messageOf('broken')).toBe('broken');
  expect(messageOf(undefined)).toBe('undefined');
});

it('a full disk is one, and so is a quota that is used up', () => {
  const failed = (code: string) => Object.assign(new Error(code), { code });
  expect(['ENOSPC', 'EDQUOT', 'EIO'].map((code) => isFullDisk(failed(code)))).toEqual([true, true, false]);
});
