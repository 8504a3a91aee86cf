/** Packs the folder of a service as the tar for a builder VM. */

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { LOCK_FILE } from '../../contracts/service/service-manifest.ts';
import { defined } from '../../domain/defined.ts';
import { LEFT_OUT_OF_BUILDS } from '../../domain/sources/source-tree.ts';
import { isErrno } from '../../linux/errno.ts';
import { packFolder, type SourceLimits } from '../../sources/pack-folder.ts';

export interface PackedService {
  /** Hex; of the tar. */
  readonly sha256: string;
  readonly bytes: number;
  /** Hex; of the lock file, where there is one. */
  readonly lockSha256?: string;
}

/**
 * Packs a service, without node_modules and .git, in stable order.
 * @param folder real absolute path of the service
 * @param tarPath of a file that must not exist yet; after a failure it is removed
 * @throws PAYLOAD_TOO_LARGE, SPEC_INVALID
 */
export async function packService(folder: string, tarPath: string, limits: SourceLimits): Promise<PackedService> {
  try {
    const packed = await packFolder(folder, tarPath, {
      ...limits,
      choose: async () => (name) => !LEFT_OUT_OF_BUILDS.includes(name),
      outsideLinks: 'leave-out',
    });
    const lockSha256 = await digestOf(join(folder, LOCK_FILE));
    return { ...packed, ...defined({ lockSha256 }) };
  } catch (error) {
    await rm(tarPath, { force: true });
    throw error;
  }
}

async function digestOf(path: string): Promise<string | undefined> {
  const hash = createHash('sha256');
  try {
    await pipeline(createReadStream(path), hash);
    return hash.digest('hex');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'EISDIR')) return undefined;
    throw error;
  }
}
