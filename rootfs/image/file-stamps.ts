import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { ImageFileName } from './manifest.ts';

/**
 * Hashing an image takes seconds, so its builder, which has just done it, notes the stat values of the files. A
 * file with the same stat values still has that hash; a file with other values is hashed again.
 */
const STAMPS_FILE = 'stamps.json';

const stampSchema = z.strictObject({ inode: z.string(), bytes: z.string(), modifiedNs: z.string() });
const stampsSchema = z.record(z.string(), stampSchema);
type Stamp = z.infer<typeof stampSchema>;

/** Notes the present stat values of files whose content has been checked. */
export async function writeStamps(directory: string, names: readonly ImageFileName[]): Promise<void> {
  const stamps: Record<string, Stamp> = {};
  for (const name of names) stamps[name] = await stampOf(join(directory, name));
  await writeFile(join(directory, STAMPS_FILE), JSON.stringify(stamps), { mode: 0o444, flush: true });
}

/** @returns whether a file has the stat values it had when it was checked; false where nothing was noted. */
export async function hasCheckedLook(directory: string, name: ImageFileName): Promise<boolean> {
  try {
    const noted = stampsSchema.parse(JSON.parse(await readFile(join(directory, STAMPS_FILE), 'utf8')))[name];
    const found = await stampOf(join(directory, name));
    return noted?.inode === found.inode && noted.bytes === found.bytes && noted.modifiedNs === found.modifiedNs;
  } catch {
    return false;
  }
}

async function stampOf(path: string): Promise<Stamp> {
  const { ino, size, mtimeNs } = await stat(path, { bigint: true });
  return { inode: String(ino), bytes: String(size), modifiedNs: String(mtimeNs) };
}
