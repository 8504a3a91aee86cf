/** Files of templates: what they must hold, and what they looked like when that was last checked. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TEMPLATE_MANIFEST, type TemplateManifest, templateManifestSchema } from '../../contracts/template-manifest.ts';
import { KilnError } from '../../domain/failures.ts';
import { hashFile } from '../../rootfs/image/manifest.ts';

/** Looks of files by path: device, inode, size, and the times of the last write and of the last change of any kind. */
export type FileLooks = ReadonlyMap<string, string>;

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
 * @param alsoLooked paths outside of it whose looks are remembered with its own, e.g. of the image
 * @returns what all of them look like while they are known to be right
 * @throws TEMPLATE_CORRUPT naming the file that is not what the manifest says
 */
export async function verifyTemplate(
  directory: string,
  manifest: TemplateManifest,
  alsoLooked: readonly string[],
  signal?: AbortSignal,
): Promise<FileLooks> {
  const paths = [TEMPLATE_MANIFEST, ...manifest.files.map(({ name }) => name)].map((name) => join(directory, name));
  // Before the content is read: what changes meanwhile looks different afterwards.
  const looks = await looksOf([...paths, ...alsoLooked]);
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
  const now = await looksOf([...looks.keys()]);
  for (const [path, look] of looks) if (now.get(path) !== look) return path;
  return undefined;
}

async function looksOf(paths: readonly string[]): Promise<FileLooks> {
  return new Map(await Promise.all(paths.map(async (path) => [path, await lookOf(path)] as const)));
}

async function lookOf(path: string): Promise<string> {
  const found = await stat(path, { bigint: true }).catch(() => undefined);
  if (found === undefined) return 'missing';
  return [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(':');
}
