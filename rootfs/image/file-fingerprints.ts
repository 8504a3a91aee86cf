import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { z } from 'zod';
import { hashFile, type ImageFile, type ImageManifest } from './manifest.ts';

/**
 * What the files of an image looked like on this host when their content was last known to be right: inode, size, and the
 * times of the last write and of the last change of any kind. Whoever writes to one changes its look, and it is read again.
 */
const LOOKS_FILE = 'looks.json';
const looksSchema = z.record(z.string().max(64), z.string().max(256));

/** Notes the present look of every file. Call it only where their content has just been checked. */
export async function noteFingerprints(directory: string, manifest: ImageManifest): Promise<void> {
  for (const { name } of manifest.files) await noteFingerprint(directory, name);
}

/** As `noteFingerprints`, of one file. */
export async function noteFingerprint(directory: string, name: string): Promise<void> {
  const looks = { ...(await notedLooks(directory)), [name]: await lookOf(join(directory, name)) };
  await writeFileAtomic(join(directory, LOOKS_FILE), JSON.stringify(looks), { mode: 0o600 });
}

/** @returns the files whose content is not what the manifest says; those that look as they did are believed */
export async function changedFiles(directory: string, manifest: ImageManifest): Promise<ImageFile[]> {
  const noted = await notedLooks(directory);
  const changed: ImageFile[] = [];
  for (const file of manifest.files) {
    const path = join(directory, file.name);
    if (noted[file.name] === (await lookOf(path))) continue;
    // A link more or fewer changes the look as well.
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
    // Notes only save work.
    return {};
  }
}

async function lookOf(path: string): Promise<string> {
  const found = await stat(path, { bigint: true }).catch(() => undefined);
  if (found === undefined) return 'missing';
  return [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(':');
}
