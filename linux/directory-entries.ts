import { readdir, stat } from 'node:fs/promises';
import { isErrno } from './errno.ts';

/** @returns names in a directory; none where there is no such directory. Any other error is thrown: it proves nothing. */
export async function directoryEntries(path: string): Promise<string[]> {
  try {
    return await readdir(path);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
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
