/** Spec, start mark and result of workloads. */

import { canonicalHash } from '../../contracts/canonical-json.ts';
import {
  resultDocumentSchema,
  type SpecDocument,
  specDocumentSchema,
  startedDocumentSchema,
} from '../../contracts/store/workload-documents.ts';
import { KilnError } from '../../domain/failures.ts';
import { storeKeys, workloadWorkflowId } from '../../domain/names.ts';
import type { WorkloadState } from '../../domain/workload/workload.ts';
import type { WorkloadDocuments } from '../../ports/documents.ts';
import { type ArchivedExecution, createHistoryArchive } from '../archive/history-archive.ts';
import { createDeployments } from '../deployments/deployments.ts';
import type { ObjectStore } from '../object-store.ts';
import { writeOnce } from '../write-once.ts';
import { createWorkloadReleases, type WorkloadReleases } from './freed-notices.ts';

export interface StoredWorkloads extends WorkloadDocuments, WorkloadReleases {
  /** Writes the spec where the id is free. @returns the document that is there now, ours or an earlier one. */
  createSpec(document: SpecDocument): Promise<SpecDocument>;
  specDocument(workloadId: string): Promise<SpecDocument | undefined>;
  /** Whether there is such a deployment for workloads to name. */
  hasDeployment(deploymentId: string): Promise<boolean>;
  /** Notes that the workflow exists, so that it is never started again once Temporal has forgotten it. */
  markStarted(workloadId: string, startedAt: string): Promise<void>;
  wasStarted(workloadId: string): Promise<boolean>;
  /** @returns the final state, or undefined where none was written yet. */
  result(workloadId: string): Promise<WorkloadState | undefined>;
  /** Its recorded executions, the first one first; undefined where not all are recorded. @throws ARCHIVE_CORRUPT */
  history(workloadId: string): Promise<ArchivedExecution[] | undefined>;
  /** The same up to one execution, of a workload that may still run. @throws ARCHIVE_CORRUPT */
  historyUpTo(workloadId: string, executionId: string): Promise<ArchivedExecution[] | undefined>;
}

/** @returns the documents of workloads in a store. Every method @throws STORE_UNAVAILABLE. */
export function createWorkloadDocuments(store: ObjectStore): StoredWorkloads {
  const specDocument = async (workloadId: string) =>
    (await store.readDocument(storeKeys.workloadSpec(workloadId), specDocumentSchema))?.value;
  return {
    ...createWorkloadReleases(store),
    historyUpTo: (workloadId, executionId) =>
      createHistoryArchive(store).readUpTo(workloadWorkflowId(workloadId), executionId),
    history: (workloadId) => createHistoryArchive(store).read(workloadWorkflowId(workloadId)),
    specDocument,
    hasDeployment: async (id) => (await createDeployments(store).get(id)) !== undefined,
    readSpec: async (workloadId, specHash) => checkedRequest(await specDocument(workloadId), workloadId, specHash),
    createSpec: async (document) => {
      if (await writeOnce(store, storeKeys.workloadSpec(document.workloadId), document)) return document;
      const standing = await specDocument(document.workloadId);
      if (standing !== undefined) return standing;
      throw new KilnError(
        'STORE_CONFLICT',
        `The spec of ${document.workloadId} was removed while it was read; try again.`,
      );
    },
    markStarted: async (workloadId, startedAt) => {
      await writeOnce(store, storeKeys.workloadStarted(workloadId), { schemaVersion: 1, startedAt });
    },
    wasStarted: async (workloadId) =>
      (await store.readDocument(storeKeys.workloadStarted(workloadId), startedDocumentSchema)) !== undefined,
    result: async (workloadId) =>
      (await store.readDocument(storeKeys.workloadResult(workloadId), resultDocumentSchema))?.value.state,
    writeResult: async (state) => {
      await writeOnce(store, storeKeys.workloadResult(state.workloadId), { schemaVersion: 1, state });
    },
  };
}

async function checkedRequest(document: SpecDocument | undefined, workloadId: string, specHash: string) {
  if (document === undefined) {
    throw new KilnError(
      'SPEC_INVALID',
      `There is no spec document of ${workloadId}. Start workloads by the client or the API.`,
    );
  }
  if (document.hash !== specHash || (await canonicalHash(document.request)) !== specHash) {
    throw new KilnError(
      'SPEC_INVALID',
      `The spec document of ${workloadId} is not the one that the workload was started with.`,
      {
        expected: specHash,
        found: document.hash,
      },
    );
  }
  return document.request;
}
