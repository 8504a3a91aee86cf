import { mkdtemp, open, readdir, readlink, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { isErrno } from '../../../linux/errno.ts';
import { syncDirectory } from '../../../linux/sync-directory.ts';

let directory: string;
beforeEach(async () => {
  directory = await realpath(await mkdtemp(join(tmpdir(), 'ksd-')));
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(directory, { recursive: true });
});

/** @returns a spy on every sync of a file in this process from now on */
async function syncs() {
  const file = await open(directory, 'r');
  const handles: Pick<typeof file, 'sync'> = Object.getPrototypeOf(file);
  await file.close();
  return vi.spyOn(handles, 'sync');
}

/** @returns how many times this process has the directory open */
async function timesOpen(): Promise<number> {
  const descriptors = await readdir('/proc/self/fd');
  const paths = await Promise.all(descriptors.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')));
  return paths.filter((path) => path === directory).length;
}

describe('a directory', () => {
  it('is synced, and closed again', async () => {
    const sync = await syncs();
    await syncDirectory(directory);
    expect(sync).toHaveBeenCalledOnce();
    expect(await timesOpen()).toBe(0);
  });

  it('is closed where it cannot be synced', async () => {
    const sync = await syncs();
    sync.mockImplementation(async () => {
      expect(await timesOpen()).toBe(1);
      throw new Error('the disk is gone');
    });
    await expect(syncDirectory(directory)).rejects.toThrow('the disk is gone');
    expect(await timesOpen()).toBe(0);
  });

  it('that is not there is an error', async () => {
    const error: unknown = await syncDirectory(join(directory, 'none')).catch((reason: unknown) => reason);
    expect(isErrno(error, 'ENOENT')).toBe(true);
  });
});
