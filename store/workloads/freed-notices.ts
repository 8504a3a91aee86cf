/** What was freed after its workload had ended: one document for each host that could not free it in time. */
import { type ReleaseDocument, releaseDocumentSchema } from '../../contracts/store/archive.ts';
import { storeKeys } from '../../domain/names.ts';
import type { ObjectStore } from '../object-store.ts';
import { writeOnce } from '../write-once.ts';

export interface WorkloadReleases {
  /** Hosts that hold nothing of a workload any more, although its end left something there. */
  releases(workloadId: string): Promise<ReleaseDocument[]>;
  /** Written once: the first proof counts. */
  noteFreed(release: Omit<ReleaseDocument, 'schemaVersion'>): Promise<void>;
}

/** @returns the notices in a store. Every method @throws STORE_UNAVAILABLE */
export function createWorkloadReleases(store: ObjectStore): WorkloadReleases {
  return {
    releases: async (workloadId) => {
      const found: ReleaseDocument[] = [];
      for await (const { key } of store.listAll(storeKeys.freedNotices(workloadId))) {
        const document = await store.readDocument(key, releaseDocumentSchema);
        if (document !== undefined) found.push(document.value);
      }
      return found;
    },
    noteFreed: async ({ workloadId, hostId, freedAt }) => {
      const document: ReleaseDocument = { schemaVersion: 1, workloadId, hostId, freedAt };
      await writeOnce(store, storeKeys.freedNotice(workloadId, hostId), document);
    },
  };
}
