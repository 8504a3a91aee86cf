import { describe, expect, it } from 'vitest';
import { repositoryFiles, textOf } from './repository-files.ts';

/**
 * `signal-exit`, which writes of records hold for a moment, takes a signal for unheard where the only other listener
 * was a `once`, gone by the time it looks: it sends the signal again, and the process dies in its orderly end.
 */
const ONCE = /\bprocess\s*\.once\(\s*('SIG|[^'\s])/;

describe('a program that ends in order when a signal asks for it', () => {
  it('listens with `on`', () => {
    const typed = repositoryFiles().filter((file) => file.endsWith('.ts') && !file.startsWith('examples/'));
    expect(typed.filter((file) => file !== 'test/boundary/signals.test.ts' && ONCE.test(textOf(file)))).toEqual([]);
    expect(ONCE.test("process.once('SIGTERM', end)")).toBe(true);
  });
});
