/** Unpacks a tar of sources into a new folder. */
import { createWriteStream } from 'node:fs';
import { mkdir, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { SourceLimits } from './pack-folder.ts';
import { readSourceTar } from './source-tar.ts';

/**
 * @param folder does not exist yet; the caller removes it, also after a failure
 * @throws what `readSourceTar` throws; errors of the file system as they are
 */
export async function unpackFolder(tar: Readable, folder: string, limits: SourceLimits): Promise<void> {
  await mkdir(folder, { mode: 0o700 });
  const links: { path: string; target: string }[] = [];
  const place = async (path: string): Promise<string> => {
    const at = join(folder, path);
    await mkdir(dirname(at), { recursive: true });
    return at;
  };
  await readSourceTar(tar, limits, {
    directory: async (path) => {
      await mkdir(join(folder, path), { recursive: true });
    },
    file: async (path, isExecutable, content) => {
      const options = { flags: 'wx', mode: isExecutable ? 0o755 : 0o644 };
      await pipeline(content, createWriteStream(await place(path), options));
    },
    link: async (path, target) => {
      links.push({ path, target });
    },
  });
  // Last, so that nothing is ever written through one.
  for (const { path, target } of links) await symlink(target, await place(path));
}
