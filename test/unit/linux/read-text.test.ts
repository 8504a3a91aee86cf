import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readTextIfThere, readTextTail } from '../../../linux/read-text.ts';

let directory: string;
let path: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'krt-'));
  path = join(directory, 'file');
});
afterEach(() => rm(directory, { recursive: true }));

describe("a file's text", () => {
  it('is all of it', async () => {
    await writeFile(path, 'größer\n');
    expect(await readTextIfThere(path)).toBe('größer\n');
  });

  it('is nothing where there is no such file', async () => {
    await writeFile(path, '');
    expect(await readTextIfThere(path)).toBe('');
    expect(await readTextIfThere(join(directory, 'none'))).toBeUndefined();
    expect(await readTextIfThere(join(path, 'below'))).toBeUndefined();
  });

  it('is an error where the file cannot be read', async () => {
    await expect(readTextIfThere(directory)).rejects.toThrow('EISDIR');
  });
});

describe("the end of a file's text", () => {
  it('is as much as was asked for, or all of it', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'grapheme-ascii' }), fc.integer({ min: 1, max: 40 }), async (text, bytes) => {
        await writeFile(path, text);
        expect(await readTextTail(path, bytes)).toBe(text.slice(-bytes));
      }),
      { numRuns: 50 },
    );
  });

  it('may begin in the middle of a character', async () => {
    await writeFile(path, '€1');
    expect(await readTextTail(path, 2)).toBe('\ufffd1');
  });

  it('is empty where there is no such file, and an error where it cannot be read', async () => {
    expect(await readTextTail(join(directory, 'none'), 10)).toBe('');
    await expect(readTextTail(directory, 10)).rejects.toThrow('EISDIR');
  });
});
