import { describe, expect, it } from 'vitest';
import { repositoryFiles, textOf } from './repository-files.ts';

/** Programs that run in a guest or in a shell of their own cannot use config/. */
const OWN_PROGRAMS = [/^config\//, /^scripts\/.+\.mjs$/, /^examples\//, /^test\/fixtures\/(services|state)\//];
const CODE = /\.(ts|mjs|cjs|js)$/;

/** @returns whether a program text reads the environment of its process. */
function readsEnvironment(text: string): boolean {
  return (
    /\bprocess\s*\??\.\s*env\b/.test(text) ||
    /\bprocess\s*\[\s*['"`]env['"`]\s*\]/.test(text) ||
    /import\s*\{[^}]*\benv\b[^}]*\}\s*from\s*['"](node:)?process['"]/.test(text) ||
    /\{[^}]*\benv\b[^}]*\}\s*=\s*process\b/.test(text)
  );
}

describe('the environment', () => {
  it.each([
    ["const a = process.env['A']", true],
    ["const a = process\n  .env['A']", true],
    ["process['env']", true],
    ["import { env } from 'node:process'", true],
    ['const { env } = process', true],
    ['spawn(file, { env })', false],
    ['process.environment', false],
  ])('is recognised as read: %j', (text, expected) => {
    expect(readsEnvironment(text)).toBe(expected);
  });

  it('is read by config/ and the set-up scripts only', () => {
    const readers = repositoryFiles()
      .filter((file) => CODE.test(file) && !OWN_PROGRAMS.some((place) => place.test(file)))
      .filter((file) => file !== 'test/boundary/environment.test.ts' && readsEnvironment(textOf(file)));
    expect(readers).toEqual([]);
  });
});
