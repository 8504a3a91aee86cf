import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { z } from 'zod';
import { hashFile, type ImageFile, type ImageManifest } from './manifest.ts';

/**
 * stat fingerprints of an image's files on this host when their content was last known to be right: inode, size, and
 * times of the last write and of the last change of any kind. A write changes the fingerprint: the file is read again.
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
    if (noted[file.name] === (await lookOf(path))) continue;
    // Adding or removing a hard link changes the fingerprint as well.
    if (await hasContent(path, file)) await noteFingerprint(directory, file.name);
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
  return [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(':');
}
