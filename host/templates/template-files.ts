/** Files of templates: what they must hold, and their stat fingerprints from the last check. */
import type { BigIntStats } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  TEMPLATE_MANIFEST,
  type TemplateManifest,
  templateManifestSchema,
} from '../../contracts/host/template-manifest.ts';
import { KilnError } from '../../domain/failures.ts';
import { hashFile } from '../../rootfs/image/manifest.ts';

/** Stat fingerprints of files by path. */
export interface FileLooks {
  /** Device, inode, size, and the times of the last write and of the last change of any kind. */
  readonly own: ReadonlyMap<string, string>;
  /**
   * Of the image's files, without the time of the last change: another host of this machine changes it by adding or
   * removing a link. A look-up of the image then reads it again: what a clone is given is right or has another inode.
   */
  readonly image: ReadonlyMap<string, string>;
}

const MAX_MANIFEST_BYTES = 64 * 1024;

/** @throws TEMPLATE_CORRUPT where it is missing, cut or no manifest of the folder's own name */
export async function readTemplateManifest(directory: string, templateId: string): Promise<TemplateManifest> {
  const path = join(directory, TEMPLATE_MANIFEST);
  try {
    if ((await stat(path)).size > MAX_MANIFEST_BYTES) throw new Error('it is too long');
    const manifest = templateManifestSchema.parse(JSON.parse(await readFile(path, 'utf8')));
    if (manifest.templateId !== templateId) throw new Error(`it names ${manifest.templateId}`);
    return manifest;
  } catch (error) {
    const why = error instanceof Error ? error.message.slice(0, 300) : String(error);
    throw new KilnError('TEMPLATE_CORRUPT', `The manifest of template ${templateId} cannot be used: ${why}`, { path });
  }
}

/** A template's files by name, and the fingerprints that they had when their content was known to be right. */
export type KnownFiles = ReadonlyMap<string, string>;

/** @returns size, SHA-256 and fingerprint of files, e.g. of a template that is being made */
export async function hashFiles(
  directory: string,
  names: readonly string[],
): Promise<{ files: TemplateManifest['files']; known: KnownFiles }> {
  const files: TemplateManifest['files'] = [];
  const known = new Map<string, string>();
  for (const name of names) {
    // Taken before the content is read, so that a change meanwhile shows later.
    known.set(name, await lookAt(join(directory, name), ownLook));
    files.push({ name, ...(await hashFile(join(directory, name))) });
  }
  return { files, known };
}

/**
 * Reads every file of a template whose content is not known.
 * @param imagePaths files of the image below, whose fingerprints are taken as well
 * @returns the fingerprints of all of them while their content is known to be right
 * @throws TEMPLATE_CORRUPT naming the file that is not what the manifest says
 */
export async function verifyTemplate(
  directory: string,
  manifest: TemplateManifest,
  imagePaths: readonly string[],
  { known, signal }: { readonly known?: KnownFiles; readonly signal?: AbortSignal } = {},
): Promise<FileLooks> {
  const paths = [TEMPLATE_MANIFEST, ...manifest.files.map(({ name }) => name)].map((name) => join(directory, name));
  // Taken before the content is read, so that a change meanwhile shows later.
  const looks = { own: await looksOf(paths, ownLook), image: await looksOf(imagePaths, imageLook) };
  for (const { name, bytes, sha256 } of manifest.files) {
    if (known?.has(name) && looks.own.get(join(directory, name)) === known.get(name)) continue;
    const found = await hashFile(join(directory, name), signal);
    if (found.bytes === bytes && found.sha256 === sha256) continue;
    throw new KilnError('TEMPLATE_CORRUPT', `${name} of template ${manifest.templateId} is not what was frozen.`, {
      file: join(directory, name),
      expected: { bytes, sha256 },
      found,
    });
  }
  return looks;
}

/** @returns the first path whose fingerprint has changed since the check; undefined where none has */
export async function changedLook(looks: FileLooks): Promise<string | undefined> {
  return (await changedOf(looks.own, ownLook)) ?? (await changedOf(looks.image, imageLook));
}

type Look = (found: BigIntStats) => string;

const imageLook: Look = ({ dev, ino, size, mtimeNs }) => [dev, ino, size, mtimeNs].join(':');
const ownLook: Look = (found) => `${imageLook(found)}:${found.ctimeNs}`;

async function changedOf(looks: ReadonlyMap<string, string>, lookOf: Look): Promise<string | undefined> {
  const now = await looksOf([...looks.keys()], lookOf);
  for (const [path, look] of looks) if (now.get(path) !== look) return path;
  return undefined;
}

async function looksOf(paths: readonly string[], lookOf: Look): Promise<ReadonlyMap<string, string>> {
  return new Map(await Promise.all(paths.map(async (path) => [path, await lookAt(path, lookOf)] as const)));
}

async function lookAt(path: string, lookOf: Look): Promise<string> {
  const found = await stat(path, { bigint: true }).catch(() => undefined);
  return found === undefined ? 'missing' : lookOf(found);
}
