/** Service folders: below the project root of this host, or in sources that a caller has uploaded. */
import { randomUUID } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { SERVICE_CONFIG_FILE } from '../../contracts/service/service-manifest.ts';
import { assertReachable } from '../../domain/egress/private-names.ts';
import { KilnError, messageOf } from '../../domain/failures.ts';
import type { Asker, Inspections, InspectWork } from '../../inspection/inspections.ts';
import type { ServiceCode, ServiceSources } from '../../ports/builds.ts';
import type { SourceLimits } from '../../sources/pack-folder.ts';
import type { UploadedSources } from './uploaded-sources.ts';

export interface ServiceSourcesOptions extends SourceLimits {
  /** Folder that every service path is relative to. */
  readonly projectRoot: string;
  /** For tars on their way into a builder, and unpacked sources; the caller that asked for one removes it. */
  readonly scratchDir: string;
  /** Uploaded sources, unpacked again for each call: nothing that a crash left half written is ever read. */
  readonly uploads: UploadedSources;
  /** Exact `name:port` entries of the operator, for which a service may have other ports than the usual ones. */
  readonly privateNames: readonly string[];
  /** Reads the folders: this process must not parse text from strangers. */
  readonly inspections: Inspections;
}

/** @returns sources that are read again with every call: a folder may change between two builds. */
export function createServiceSources(options: ServiceSourcesOptions): ServiceSources {
  const { inspections } = options;
  return {
    async inspect(code, signal) {
      const work = (work: InspectWork) => inspections.inspect(work, { owner: ownerOf(code), signal });
      const manifest = await withCode(options, code, work);
      assertEgress(manifest.egress, options.privateNames);
      return manifest;
    },
    pack: (code, signal) =>
      withCode(options, code, (work) => packService(options, work, { owner: ownerOf(code), signal })),
  };
}

/** @throws CONFIG_INVALID */
function assertEgress(egress: readonly string[], privateNames: readonly string[]): void {
  try {
    assertReachable(egress, privateNames);
  } catch (error) {
    throw new KilnError('CONFIG_INVALID', `${SERVICE_CONFIG_FILE}: egress.allow: ${messageOf(error)}`, {}, error);
  }
}

/** Workloads without a project share a turn. */
function ownerOf({ projectId }: ServiceCode): string {
  return projectId ?? '';
}

async function withCode<T>(
  { projectRoot, scratchDir, uploads, maxBytes, maxEntries }: ServiceSourcesOptions,
  { servicePath, source }: ServiceCode,
  work: (work: InspectWork) => Promise<T>,
): Promise<T> {
  const limits = { maxBytes, maxEntries };
  await mkdir(scratchDir, { recursive: true, mode: 0o700 });
  if (source === undefined) return work({ root: resolve(projectRoot), servicePath, limits });
  const root = join(scratchDir, `upload-${randomUUID()}`);
  const tarPath = `${root}.tar`;
  try {
    await uploads.fetch(source.sha256, tarPath);
    return await work({ root, servicePath, tarPath, limits });
  } finally {
    await rm(root, { recursive: true, force: true });
    await rm(tarPath, { force: true });
  }
}

async function packService({ scratchDir, inspections }: ServiceSourcesOptions, work: InspectWork, asker: Asker) {
  const packedPath = join(scratchDir, `source-${randomUUID()}.tar`);
  try {
    return { tarPath: packedPath, ...(await inspections.pack({ ...work, packedPath }, asker)) };
  } catch (error) {
    // A killed process may have left a part.
    await rm(packedPath, { force: true });
    throw error;
  }
}
