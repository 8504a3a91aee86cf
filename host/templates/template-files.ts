/** Files of templates: what they must hold, and what they looked like when that was last checked. */
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

/** Looks of files by path. */
export interface FileLooks {
  /** Device, inode, size, and the times of the last write and of the last change of any kind. */
  readonly own: ReadonlyMap<string, string>;
  /**
   * Of the image below, without the last: a link more or fewer, as another host of this machine makes it, changes that as
   * well. Whoever looks up an image has it read again then, so what a clone is given is right or has another inode.
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

/**
 * Reads every file of a template.
 * @param imagePaths files of the image below, whose looks are remembered with its own
 * @returns what all of them look like while they are known to be right
 * @throws TEMPLATE_CORRUPT naming the file that is not what the manifest says
 */
export async function verifyTemplate(
  directory: string,
  manifest: TemplateManifest,
  imagePaths: readonly string[],
  signal?: AbortSignal,
): Promise<FileLooks> {
  const paths = [TEMPLATE_MANIFEST, ...manifest.files.map(({ name }) => name)].map((name) => join(directory, name));
  // Before the content is read: what changes meanwhile looks different afterwards.
  const looks = { own: await looksOf(paths, ownLook), image: await looksOf(imagePaths, imageLook) };
  for (const { name, bytes, sha256 } of manifest.files) {
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

/** @returns the first path that looks different from when it was checked; undefined where all are as they were */
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
  const look = async (path: string) => {
    const found = await stat(path, { bigint: true }).catch(() => undefined);
    return found === undefined ? 'missing' : lookOf(found);
  };
  return new Map(await Promise.all(paths.map(async (path) => [path, await look(path)] as const)));
}
