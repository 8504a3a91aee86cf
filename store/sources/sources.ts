/** Uploaded sources: each is an immutable tar, named by its sha256, with a document that says it is complete. */
import {
  retiredSourceSchema,
  type SourceDocument,
  sourceDocumentSchema,
  type UploadedSource,
} from '../../contracts/api/source.ts';
import { KilnError } from '../../domain/failures.ts';
import { storeKeys } from '../../domain/names.ts';
import type { ObjectStore } from '../object-store.ts';
import { writeOnce } from '../write-once.ts';

export interface StoredSources {
  /** @returns undefined where no such sources are stored whole. */
  find(sha256: string): Promise<UploadedSource | undefined>;
  /** For a workload that exists: also sources that new ones may no longer use. */
  locate(sha256: string): Promise<UploadedSource | undefined>;
  /** Find-or-create by digest: two savers at a time store the same bytes. @param path file of the tar */
  save(path: string, source: UploadedSource): Promise<{ source: UploadedSource; created: boolean }>;
}

/** @returns the sources in a store. Every method @throws STORE_UNAVAILABLE */
export function createSources(
  store: Pick<ObjectStore, 'readDocument' | 'writeDocument' | 'putBlob' | 'headBlob'>,
): StoredSources {
  const find = async (sha256: string): Promise<UploadedSource | undefined> => {
    const found = await store.readDocument(storeKeys.sourceDocument(sha256), sourceDocumentSchema);
    return found === undefined ? undefined : partOf(found.value);
  };
  return {
    find,
    locate: async (sha256) => {
      const retired = async () =>
        (await store.readDocument(storeKeys.retiredSource(sha256), retiredSourceSchema))?.value;
      // Checked again last: retired sources may have been restored in between.
      const found = (await find(sha256)) ?? (await retired()) ?? (await find(sha256));
      return found === undefined ? undefined : partOf(found);
    },
    save: async (path, source) => {
      const standing = await find(source.sha256);
      if (standing !== undefined) return { source: standing, created: false };
      await store.putBlob(storeKeys.sourceTar(source.sha256), { path }, { expectedSha256: source.sha256 });
      const document: SourceDocument = { schemaVersion: 1, ...source, storedAt: new Date().toISOString() };
      const created = await writeOnce(store, storeKeys.sourceDocument(source.sha256), document);
      // The removal of old sources may have removed the same tar before the document was written.
      if ((await store.headBlob(storeKeys.sourceTar(source.sha256))) === undefined) {
        await store.putBlob(storeKeys.sourceTar(source.sha256), { path }, { expectedSha256: source.sha256 });
      }
      return { source, created };
    },
  };
}

/** @returns the failure of a workload whose sources are not stored. */
export function sourcesMissing(sha256: string): KilnError {
  return new KilnError(
    'SERVICE_NOT_FOUND',
    `There are no uploaded sources ${sha256}; upload them (again) with \`kiln deploy\` or POST /api/sources.`,
    { sha256 },
  );
}

function partOf({ sha256, bytes, files }: UploadedSource): UploadedSource {
  return { sha256, bytes, files };
}
