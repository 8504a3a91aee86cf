import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { z } from 'zod';
import { hashFile, type ImageFile, type ImageManifest } from './manifest.ts';

/**
 * stat fingerprints of an image's files on this host when their content was last known to be right: inode, size, number
 * of hard links, and times of the last write and of the last change of any kind. A write changes the fingerprint: the file is read again.
 */
const LOOKS_FILE = 'looks.json';
const looksSchema = z.record(z.string().max(64), z.string().max(256));

/** Notes every file's present fingerprint. Call it only when their content has just been checked. */
export async function noteFingerprints(directory: string, manifest: ImageManifest): Promise<void> {
  for (const { name } of manifest.files) await noteFingerprint(directory, name);
}

/** As `noteFingerprints`, of one file. */
export async function noteFingerprint(directory: string, name: string): Promise<void> {
  const looks = { ...(await notedLooks(directory)), [name]: await lookOf(join(directory, name)) };
  await writeFileAtomic(join(directory, LOOKS_FILE), JSON.stringify(looks), { mode: 0o600 });
}

/** @returns the files whose content is not what the manifest says; files with the noted fingerprint are trusted */
export async function changedFiles(directory: string, manifest: ImageManifest): Promise<ImageFile[]> {
  const noted = await notedLooks(directory);
  const changed: ImageFile[] = [];
  for (const file of manifest.files) {
    const path = join(directory, file.name);
    const found = await lookOf(path);
    if (noted[file.name] === found) continue;
    const isSame = isOnlyLinked(noted[file.name], found) || (await hasContent(path, file));
    if (isSame) await noteFingerprint(directory, file.name);
    else changed.push(file);
  }
  return changed;
}

async function hasContent(path: string, { bytes, sha256 }: ImageFile): Promise<boolean> {
  const size = (await stat(path).catch(() => undefined))?.size;
  return size === bytes && (await hashFile(path)).sha256 === sha256;
}

async function notedLooks(directory: string): Promise<Record<string, string>> {
  try {
    return looksSchema.parse(JSON.parse(await readFile(join(directory, LOOKS_FILE), 'utf8')));
  } catch {
    // The notes only save work.
    return {};
  }
}

async function lookOf(path: string): Promise<string> {
  const found = await stat(path, { bigint: true }).catch(() => undefined);
  if (found === undefined) return 'missing';
  return [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs, found.nlink].join(':');
}

/**
 * Hosts of one machine share the files of its builds as hard links. Making or removing a link changes the inode's time
 * for all of these hosts, and each would read gigabytes again at its next VM.
 * @returns whether the number of links differs and everything else but the time of that change is as it was noted
 */
function isOnlyLinked(noted: string | undefined, found: string): boolean {
  const [before, after] = [noted?.split(':') ?? [], found.split(':')];
  const isSame = (field: number) => before[field] === after[field];
  return before.length === after.length && [0, 1, 2, 3].every(isSame) && !isSame(5);
}
