import { readdir, stat } from 'node:fs/promises';
import { isErrno } from './errno.ts';

/** @returns names in a directory; none where there is no such directory. Any other error is thrown: it proves nothing. */
export function directoryEntries(path: string): Promise<string[]> {
  return noneIfAbsent(readdir(path));
}

/** @returns names of the directories in a directory, none where there is no such directory. Links do not count. */
export async function subdirectories(path: string): Promise<string[]> {
  const entries = await noneIfAbsent(readdir(path, { withFileTypes: true }));
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
}

async function noneIfAbsent<T>(entries: Promise<T[]>): Promise<T[]> {
  try {
    return await entries;
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return [];
    throw error;
  }
}

/** @returns false only where the file system says that there is nothing; what cannot be reached may well be there. */
export async function mayExist(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    (error: unknown) => !isErrno(error, 'ENOENT', 'ENOTDIR'),
  );
}
