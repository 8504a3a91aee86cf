/** Looks for the file that a start command names, before anything is built. */
import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../../domain/failures.ts';
import { printable } from './service-folder.ts';

/** @throws CONFIG_INVALID where none of `candidates` is in the folder; paths that lead out of it are not checked */
export async function assertStartFile(folder: string, start: string, candidates: readonly string[]): Promise<void> {
  const [file] = candidates;
  if (file === undefined || file.startsWith('-') || file.startsWith('/')) return;
  for (const candidate of candidates) if (await isFileOrLink(join(folder, candidate))) return;
  throw new KilnError(
    'CONFIG_INVALID',
    `The start command is "${printable(start)}", but there is no ${printable(file)}.`,
    { file },
  );
}

export async function isFileOrLink(path: string): Promise<boolean> {
  return lstat(path).then(
    (found) => found.isFile() || found.isSymbolicLink(),
    () => false,
  );
}
