import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CHECKOUT } from '../../../config/checkout.ts';

describe('two set-ups at once', () => {
  let cache: string;
  const children: ChildProcess[] = [];
  beforeEach(async () => {
    cache = await mkdtemp(join(tmpdir(), 'kiln-cache-'));
  });
  afterEach(async () => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    await rm(cache, { recursive: true });
  });

  /** A set-up whose only step makes `marks/<name>` and, if `hangs`, never ends. */
  const setUp = (name: string, hangs: boolean): ChildProcess => {
    const script = `
      import { mkdirSync, writeFileSync } from 'node:fs';
      import { withLock } from ${JSON.stringify(join(CHECKOUT, 'scripts/setup/lock.mjs'))};
      await withLock(${JSON.stringify(join(cache, 'setup.lock'))}, () => process.stdout.write('waits\\n'), async () => {
        mkdirSync(${JSON.stringify(join(cache, 'marks'))}, { recursive: true });
        writeFileSync(${JSON.stringify(join(cache, 'marks', name))}, '');
        process.stdout.write('works\\n');
        if (${hangs}) await new Promise(() => setInterval(() => undefined, 1000));
      });`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    return child;
  };
  const says = async (child: ChildProcess): Promise<string> => {
    const [text] = child.stdout === null ? [''] : await once(child.stdout, 'data');
    return String(text).trim();
  };

  it('the second waits, and goes on by itself where the first is killed in the middle', async () => {
    const first = setUp('first', true);
    expect(await says(first)).toBe('works');
    const second = setUp('second', false);
    expect(await says(second)).toBe('waits');
    expect(existsSync(join(cache, 'marks', 'second'))).toBe(false);
    const ended = once(second, 'exit');
    first.kill('SIGKILL');
    expect(await ended).toEqual([0, null]);
    expect(await readdir(join(cache, 'marks'))).toEqual(['first', 'second']);
  });
});
