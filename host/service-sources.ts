/** Service folders below the project root of this host. */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ServiceSources } from '../activities/ports.ts';
import { LOCK_FILE } from '../contracts/service-manifest.ts';
import { hasCode } from '../vmm/process-identity.ts';
import { findServiceFolder } from './service-folder.ts';
import { inspectService } from './service-inspection.ts';
import { packFolder, type SourceLimits } from './source-pack.ts';

export interface ServiceSourcesOptions extends SourceLimits {
  /** Folder that every service path is relative to. */
  readonly projectRoot: string;
  /** For tars on their way into a builder; whoever asked for one removes it. */
  readonly scratchDir: string;
}

/** @returns sources that are read anew with every call: a folder may change between two builds. */
export function createServiceSources(options: ServiceSourcesOptions): ServiceSources {
  return {
    async inspect(servicePath) {
      return inspectService(await findServiceFolder(options.projectRoot, servicePath), servicePath);
    },
    async pack(servicePath) {
      const folder = await findServiceFolder(options.projectRoot, servicePath);
      await mkdir(options.scratchDir, { recursive: true, mode: 0o700 });
      const tarPath = join(options.scratchDir, `source-${randomUUID()}.tar`);
      try {
        const packed = await packFolder(folder, tarPath, options);
        const lockSha256 = await digestOf(join(folder, LOCK_FILE));
        return { tarPath, ...packed, ...(lockSha256 === undefined ? {} : { lockSha256 }) };
      } catch (error) {
        await rm(tarPath, { force: true });
        throw error;
      }
    },
  };
}

async function digestOf(path: string): Promise<string | undefined> {
  try {
    return createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'EISDIR')) return undefined;
    throw error;
  }
}
