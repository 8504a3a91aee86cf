/** Removes images of this host that no disk uses and nobody asks for. */
import { join } from 'node:path';
import { CHECKPOINT_MANIFEST, checkpointManifestSchema } from '../../contracts/host/checkpoint-manifest.ts';
import type { ImageCollectionLimits } from '../../domain/upkeep/image-collection.ts';
import { directoryEntries } from '../../linux/directory-entries.ts';
import { readStateFile } from '../../linux/state-file.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import type { HostLogger } from '../host-logger.ts';
import type { Templates } from '../templates/template-store.ts';

export interface ImageSweepOptions {
  readonly stateDir: string;
  readonly records: Pick<InstanceStore, 'list' | 'read'>;
  readonly templates: Pick<Templates, 'list'> | undefined;
  readonly limits: ImageCollectionLimits;
  /** Absent: every image is kept. */
  readonly collect: ((inUse: ReadonlySet<string>, limits: ImageCollectionLimits) => Promise<string[]>) | undefined;
  readonly logger: HostLogger;
}

/** @returns a sweep that does nothing where it cannot be sure: a record that cannot be read may name any image */
export function createImageSweep(options: ImageSweepOptions): () => Promise<void> {
  const { limits, collect, logger } = options;
  return async () => {
    try {
      const removed = await collect?.(await imagesInUse(options), limits);
      if (removed !== undefined && removed.length > 0)
        logger.info({ removed }, 'removed images that nobody needs here');
    } catch (error) {
      logger.warn({ reason: String(error) }, 'no further image was removed');
    }
  };
}

async function imagesInUse({ stateDir, records, templates }: ImageSweepOptions): Promise<ReadonlySet<string>> {
  const vms = await Promise.all((await records.list()).map((vmId) => records.read(vmId)));
  const checkpoints = await imagesOfCheckpoints(join(stateDir, 'checkpoints'));
  const ofTemplates = (templates?.list() ?? []).map(({ imageDigest }) => imageDigest);
  return new Set([...vms.flatMap((vm) => vm?.imageDigest ?? []), ...ofTemplates, ...checkpoints]);
}

async function imagesOfCheckpoints(directory: string): Promise<string[]> {
  const names = await directoryEntries(directory);
  const read = (name: string) => readStateFile(join(directory, name, CHECKPOINT_MANIFEST), checkpointManifestSchema);
  const manifests = await Promise.all(names.map(read));
  return manifests.flatMap((manifest) => manifest?.imageDigest ?? []);
}
