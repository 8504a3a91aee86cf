import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { directoryEntries, mayExist, subdirectories } from '../../../linux/directory-entries.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kde-'));
  await mkdir(join(directory, 'folder'));
  await writeFile(join(directory, 'file'), '');
  await symlink('folder', join(directory, 'link'));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

/** Longer than the kernel allows for a name, so it can neither be found nor known to be absent. */
const unreadable = () => join(directory, 'x'.repeat(300));

describe('names in a directory', () => {
  it('are all of them, or only those of directories', async () => {
    expect((await directoryEntries(directory)).sort()).toEqual(['file', 'folder', 'link']);
    expect(await subdirectories(directory)).toEqual(['folder']);
  });

  it('are none where there is no such directory', async () => {
    for (const absent of [join(directory, 'none'), join(directory, 'file'), join(directory, 'file', 'below')]) {
      expect(await directoryEntries(absent)).toEqual([]);
      expect(await subdirectories(absent)).toEqual([]);
    }
  });

  it('are not said to be none where they cannot be read', async () => {
    await expect(directoryEntries(unreadable())).rejects.toThrow('ENAMETOOLONG');
    await expect(subdirectories(unreadable())).rejects.toThrow('ENAMETOOLONG');
  });
});

describe('what may exist', () => {
  it('is all that the file system does not say is absent', async () => {
    expect(await mayExist(join(directory, 'file'))).toBe(true);
    expect(await mayExist(unreadable())).toBe(true);
    expect(await mayExist(join(directory, 'none'))).toBe(false);
    expect(await mayExist(join(directory, 'file', 'below'))).toBe(false);
  });
});
