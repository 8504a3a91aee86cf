import { randomBytes } from 'node:crypto';
import { chmod, mkdir, mkdtemp, open, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeStamps } from '../../../rootfs/image/file-stamps.ts';
import { imageDirectory } from '../../../rootfs/image/local-images.ts';
import {
  canonicalJson,
  hashFile,
  IMAGE_FILES,
  type ImageFile,
  type ImageManifest,
  manifestDigest,
} from '../../../rootfs/image/manifest.ts';

const MIB = 1 << 20;

export type ImageContents = Partial<Record<(typeof IMAGE_FILES)[number], Buffer>>;

/**
 * Lays out a small image like the image builder does: sparse files with a little content.
 * @param contents of files that must not be random
 * @returns its digest
 */
export async function layOutSmallImage(
  { root, builds, name }: { readonly root: string; readonly builds: string; readonly name: string },
  contents: ImageContents,
): Promise<string> {
  const work = await mkdtemp(join(root, 'work-'));
  const files: ImageFile[] = [];
  for (const file of IMAGE_FILES) {
    const handle = await open(join(work, file), 'wx');
    await handle.write(contents[file] ?? randomBytes(10_000), 0, undefined, 3 * MIB);
    await handle.truncate(16 * MIB);
    await handle.close();
    await chmod(join(work, file), 0o444);
    files.push({ name: file, ...(await hashFile(join(work, file))) });
  }
  const manifest: ImageManifest = {
    schemaVersion: 1,
    name,
    arch: 'x86_64',
    files,
    agentKey: 'agent',
    kernelRelease: '6.1',
    nodeVersion: '24',
    npmVersion: '11',
    recipeKey: 'key',
  };
  const digest = manifestDigest(manifest);
  await mkdir(builds, { recursive: true });
  const directory = imageDirectory(builds, digest);
  await mkdir(directory);
  for (const file of IMAGE_FILES) await rename(join(work, file), join(directory, file));
  await writeStamps(directory, IMAGE_FILES);
  await writeFile(join(directory, 'manifest.json'), canonicalJson(manifest));
  return digest;
}
