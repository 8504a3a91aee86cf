import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { z } from 'zod';
import { KilnError } from '../../domain/failures.ts';
import { DIGEST_PATTERN, IMAGE_NAME_PATTERN } from '../../domain/names.ts';
import type { CachedImage } from '../../domain/vm.ts';
import { directoryEntries } from '../../linux/directory-entries.ts';
import { readTextIfThere } from '../../linux/read-text.ts';
import {
  canonicalJson,
  type ImageFileName,
  type ImageManifest,
  imageManifestSchema,
  MANIFEST_FILE,
  manifestDigest,
} from './manifest.ts';

/** The image that a name and tag point at in the local build cache, and what it was made from. */
const localTagSchema = z.strictObject({ digest: z.string().regex(DIGEST_PATTERN), recipeKey: z.string().min(1) });
export type LocalTag = z.infer<typeof localTagSchema>;

/** @returns the folder of one image below a folder of images (`<cache>/images` or `<host>/images`). */
export function imageDirectory(imagesDir: string, digest: string): string {
  if (!DIGEST_PATTERN.test(digest)) throw new KilnError('CONFIG_INVALID', `not an image digest: ${digest}`, { digest });
  return join(imagesDir, digest.replace(':', '-'));
}

/** @returns digests of the images below a folder of images; a folder that is not there holds none. */
export async function listLocalImages(imagesDir: string): Promise<string[]> {
  const names = await directoryEntries(imagesDir);
  return names.map((name) => name.replace('-', ':')).filter((digest) => DIGEST_PATTERN.test(digest));
}

/** @returns the tag's target, or undefined where nothing was built under that name, or the record is unreadable. */
export async function readLocalTag(imagesDir: string, name: string, tag: string): Promise<LocalTag | undefined> {
  const text = await readTextIfThere(localTagPath(imagesDir, name, tag));
  if (text === undefined) return undefined;
  try {
    return localTagSchema.parse(JSON.parse(text));
  } catch {
    // The record only saves work: a build finds its target again.
    return undefined;
  }
}

/** @returns the images that the tags of this folder point at, by name. */
export async function listLocalTags(imagesDir: string, tag: string): Promise<{ name: string; digest: string }[]> {
  const files = await directoryEntries(join(imagesDir, 'tags'));
  const ending = `@${tag}.json`;
  const names = files.flatMap((file) => (file.endsWith(ending) ? [file.slice(0, -ending.length)] : []));
  const found: { name: string; digest: string }[] = [];
  for (const name of names.filter((each) => IMAGE_NAME_PATTERN.test(each)).sort()) {
    const target = await readLocalTag(imagesDir, name, tag);
    if (target !== undefined) found.push({ name, digest: target.digest });
  }
  return found;
}

/** Points a name and tag at an image of this folder. */
export async function writeLocalTag(imagesDir: string, name: string, tag: string, target: LocalTag): Promise<void> {
  const path = localTagPath(imagesDir, name, tag);
  await mkdir(join(imagesDir, 'tags'), { recursive: true });
  await writeFileAtomic(path, `${canonicalJson(target)}\n`);
}

function localTagPath(imagesDir: string, name: string, tag: string): string {
  return join(imagesDir, 'tags', `${name}@${tag}.json`);
}

/**
 * Reads the manifest in an image's folder and checks it against the digest. Does not read the other files.
 * @returns undefined where the folder has none
 * @throws IMAGE_CORRUPT where it is not the manifest of that digest
 */
export async function readManifest(imagesDir: string, digest: string): Promise<ImageManifest | undefined> {
  const directory = imageDirectory(imagesDir, digest);
  const text = await readTextIfThere(join(directory, MANIFEST_FILE));
  return text === undefined ? undefined : parseManifest(text, digest, directory);
}

/** @throws IMAGE_CORRUPT where `text` is not the manifest of that digest; `where` names its place in the message */
export function parseManifest(text: string, digest: string, where: string): ImageManifest {
  let manifest: ImageManifest;
  try {
    manifest = imageManifestSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new KilnError('IMAGE_CORRUPT', `the manifest in ${where} is unreadable: remove it`, { where, digest }, error);
  }
  const found = manifestDigest(manifest);
  if (found !== digest) {
    throw new KilnError('IMAGE_CORRUPT', `the manifest in ${where} belongs to ${found}: remove it`, {
      where,
      digest,
      found,
    });
  }
  return manifest;
}

/** @returns the paths of an image whose files lie in `imagesDir`. */
export function cachedImage(imagesDir: string, digest: string, manifest: ImageManifest): CachedImage {
  const directory = imageDirectory(imagesDir, digest);
  const path = (name: ImageFileName): string => join(directory, name);
  const fileOf = (wanted: ImageFileName) => manifest.files.find(({ name }) => name === wanted);
  return {
    name: manifest.name,
    digest,
    kernelPath: path('vmlinux'),
    initrdPath: path('initrd'),
    rootfsPath: path('rootfs.ext4'),
    rootfsBytes: fileOf('rootfs.ext4')?.bytes ?? 0,
    workspacePath: path('workspace.ext4'),
    sha256: { kernel: fileOf('vmlinux')?.sha256 ?? '', rootfs: fileOf('rootfs.ext4')?.sha256 ?? '' },
  };
}
