import { open, readFile } from 'node:fs/promises';
import { isErrno } from './errno.ts';

/** @returns a file's text; undefined where there is no such file. Any other error is thrown: it proves nothing. */
export async function readTextIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

/** @returns the last `maxBytes` of a file as text; '' where there is no such file. A cut character is one of U+FFFD. */
export async function readTextTail(path: string, maxBytes: number): Promise<string> {
  try {
    const handle = await open(path, 'r');
    try {
      const { size } = await handle.stat();
      const length = Math.min(size, maxBytes);
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, size - length);
      return buffer.toString('utf8', 0, bytesRead);
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return '';
    throw error;
  }
}
