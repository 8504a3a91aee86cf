/** Small JSON files that must survive a crash between any two lines: each file is complete or absent, never partial. */

import { mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import type { z } from 'zod';
import { KilnError } from '../domain/failures.ts';
import { jsonOrUndefined } from '../domain/json-or-undefined.ts';
import { directoryEntries } from './directory-entries.ts';
import { isErrno } from './errno.ts';
import { readTextIfThere } from './read-text.ts';
import { syncDirectory } from './sync-directory.ts';

/** Writes a record by temp + fsync + rename + fsync of the directory, which is made if absent. */
export async function writeStateFile(path: string, value: unknown): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  await writeFileAtomic(path, `${JSON.stringify(value)}\n`, { encoding: 'utf8', mode: 0o600, fsync: true });
  await syncDirectory(dirname(path));
}

/** @returns undefined where there is no such file. @throws INTERNAL, naming the file, where it breaks the schema */
export async function readStateFile<T>(path: string, schema: z.ZodType<T>): Promise<T | undefined> {
  const text = await readTextIfThere(path);
  if (text === undefined) return undefined;
  const parsed = schema.safeParse(jsonOrUndefined(text));
  if (parsed.success) return parsed.data;
  throw new KilnError('INTERNAL', `${path} is damaged; look at it, then remove it.`, {
    file: path,
    issues: parsed.error.issues.slice(0, 3).map((issue) => `${issue.path.join('.')}: ${issue.message}`),
  });
}

/** Removes a record for good. A missing one is no error. */
export async function removeStateFile(path: string): Promise<void> {
  await rm(path, { force: true });
  await syncDirectory(dirname(path)).catch((error: unknown) => {
    if (!isErrno(error, 'ENOENT')) throw error;
  });
}

/**
 * Removes what interrupted writes left beside the records of a directory. Call it only before this process writes:
 * a write in progress has the same form.
 */
export async function removeInterrupted(directory: string): Promise<void> {
  for (const name of await directoryEntries(directory)) {
    if (/\.json\.\d+$/.test(name)) await rm(join(directory, name), { force: true });
  }
}
