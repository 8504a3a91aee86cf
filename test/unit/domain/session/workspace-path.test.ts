import { posix } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  MAX_PUT_BYTES,
  MAX_WORKSPACE_PATH,
  putSizeOf,
  workspacePathProblem,
} from '../../../../domain/session/workspace-path.ts';

describe('a path in the workspace', () => {
  it.each(['a', 'a/b', '...', '..a/b..', '.hidden', '-rf', '%2e%2e', 'ä 🦊', 'a'.repeat(255)])('%j is one', (path) => {
    expect(workspacePathProblem(path)).toBeUndefined();
  });

  it.each([
    '',
    '.',
    '..',
    '/',
    '/a',
    'a/',
    'a//b',
    './a',
    'a/.',
    'a/..',
    'a/../b',
    'a\0b',
    'a\nb',
    '\ufffd',
    '\ud800',
    'a'.repeat(256),
    'ä'.repeat(128),
    'a/'.repeat(MAX_WORKSPACE_PATH),
  ])('%j is none', (path) => {
    expect(workspacePathProblem(path)).toBeDefined();
  });

  it('never leads out, whatever its text', () => {
    const part = fc.constantFrom('..', '.', '', 'a', '/', '\0', '\\', '%2e');
    fc.assert(
      fc.property(fc.array(part, { maxLength: 8 }), (parts) => {
        const path = parts.join('/');
        if (workspacePathProblem(path) !== undefined) return;
        expect(posix.join('/workspace', path)).toBe(`/workspace/${path}`);
      }),
    );
  });
});

it('a file has a size, up to the largest', () => {
  expect(putSizeOf(String(MAX_PUT_BYTES))).toBe(MAX_PUT_BYTES);
  expect(putSizeOf('0')).toBe(0);
  for (const text of [undefined, '', '-1', '1e3', '0x1', '1,1', '9'.repeat(16)]) {
    expect(() => putSizeOf(text)).toThrow(expect.objectContaining({ code: 'SPEC_INVALID' }));
  }
  expect(() => putSizeOf(String(MAX_PUT_BYTES + 1))).toThrow(expect.objectContaining({ code: 'PAYLOAD_TOO_LARGE' }));
});
