/** Service folders: below the project root of this host, or in sources that a caller has uploaded. */
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { LOCK_FILE } from '../../contracts/service/service-manifest.ts';
import { LEFT_OUT_OF_BUILDS } from '../../domain/sources/source-tree.ts';
import { isErrno } from '../../linux/errno.ts';
import { findServiceFolder } from '../../inspection/service-folder.ts';
import { inspectService } from '../../inspection/service-inspection.ts';
import { hasCode } from '../../linux/process-identity.ts';
import type { ServiceCode, ServiceSources } from '../../ports/builds.ts';
import { packFolder, type SourceLimits } from '../../sources/pack-folder.ts';

export interface ServiceSourcesOptions extends SourceLimits {
  /** Folder that every service path is relative to. */
  readonly projectRoot: string;
  /** For tars on their way into a builder, and unpacked sources; whoever asked for one removes it. */
  readonly scratchDir: string;
  /** Uploaded sources, unpacked anew for each call: nothing that a crash left half written is ever read. */
  readonly uploads: { unpack(sha256: string, folder: string): Promise<void> };
}

/** @returns sources that are read anew with every call: a folder may change between two builds. */
export function createServiceSources(options: ServiceSourcesOptions): ServiceSources {
  return {
    inspect: (code) => withFolder(options, code, (folder) => inspectService(folder, code.servicePath)),
    pack: (code) => withFolder(options, code, (folder) => packService(options, folder)),
  };
}

async function withFolder<T>(
  { projectRoot, scratchDir, uploads }: ServiceSourcesOptions,
  { servicePath, source }: ServiceCode,
  work: (folder: string) => Promise<T>,
): Promise<T> {
  if (source === undefined) return work(await findServiceFolder(projectRoot, servicePath));
  await mkdir(scratchDir, { recursive: true, mode: 0o700 });
  const root = join(scratchDir, `upload-${randomUUID()}`);
  try {
    await uploads.unpack(source.sha256, root);
    return await work(await findServiceFolder(root, servicePath));
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}

async function packService(options: ServiceSourcesOptions, folder: string) {
  await mkdir(options.scratchDir, { recursive: true, mode: 0o700 });
  const tarPath = join(options.scratchDir, `source-${randomUUID()}.tar`);
  try {
    const packed = await packFolder(folder, tarPath, {
      ...options,
      choose: async () => (name) => !LEFT_OUT_OF_BUILDS.includes(name),
      outsideLinks: 'leave-out',
    });
    const lockSha256 = await digestOf(join(folder, LOCK_FILE));
    return { tarPath, ...packed, ...(lockSha256 === undefined ? {} : { lockSha256 }) };
  } catch (error) {
    await rm(tarPath, { force: true });
    throw error;
  }
}

async function digestOf(path: string): Promise<string | undefined> {
  try {
    return createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'EISDIR')) return undefined;
    throw error;
  }
}
