/**
 * Removes uploaded sources that no workload needs any more, in two steps with a pause between them: first new workloads
 * can no longer use them; then, if no workload needs them by now, they are removed. A create that runs during
 * the first step is seen by the second.
 */

import { retiredSourceSchema, type SourceDocument, sourceDocumentSchema } from '../../contracts/api/source.ts';
import { specDocumentSchema } from '../../contracts/store/workload-documents.ts';
import { defined } from '../../domain/defined.ts';
import { storeKeys } from '../../domain/names.ts';
import { isFinal } from '../../domain/workload/stages.ts';
import type { ObjectStore } from '../object-store.ts';
import { createWorkloadDocuments } from '../workloads/workload-documents.ts';
import { writeOnce } from '../write-once.ts';

export interface PruneSourcesOptions {
  /** Minimum ms since their upload and since the end of the last workload made from them. */
  readonly keepMs: number;
  /** Between the two steps, ms: longer than a create may take. */
  readonly graceMs: number;
  /** Milliseconds since 1970. */
  readonly now: number;
  /** How many sources this call checks. */
  readonly maxSources: number;
  /** `next` of an earlier call. */
  readonly after?: string;
  /** Called repeatedly. @throws to end early: what is done stays done */
  readonly onProgress?: () => void;
}

export interface PrunedSources {
  /** Sources that are gone now. */
  readonly removed: number;
  /** Where to continue; absent: all were checked. */
  readonly next?: string;
}

/** May be repeated, and interrupted anywhere. @throws STORE_UNAVAILABLE */
export async function pruneSources(store: ObjectStore, options: PruneSourcesOptions): Promise<PrunedSources> {
  const { after, maxSources } = options;
  const page = await store.list(storeKeys.sources, {
    delimiter: '/',
    limit: maxSources,
    ...defined({ after }),
  });
  const digests = page.folders
    // A server may list the folder again after which the page begins.
    .filter((folder) => after === undefined || folder > after)
    .map((folder) => folder.slice(storeKeys.sources.length, -1))
    .filter((name) => /^[0-9a-f]{64}$/.test(name));
  const old: string[] = [];
  for (const sha256 of digests) {
    options.onProgress?.();
    if (await isOld(store, sha256, options)) old.push(sha256);
  }
  const needed = old.length === 0 ? new Set<string>() : await neededSources(store, new Set(old), options);
  let removed = 0;
  for (const sha256 of old) {
    options.onProgress?.();
    if (await removeOrKeep(store, sha256, needed.has(sha256), options)) removed += 1;
  }
  return { removed, ...defined({ next: page.next }) };
}

async function isOld(store: ObjectStore, sha256: string, { keepMs, graceMs, now }: PruneSourcesOptions) {
  const { standing, retired } = await read(store, sha256);
  // Both exist where a first step was interrupted, or where the sources were uploaded again.
  if (retired !== undefined) return standing !== undefined || now - Date.parse(retired.retiredAt) > graceMs;
  return standing !== undefined && now - Date.parse(standing.storedAt) > keepMs;
}

async function read(store: ObjectStore, sha256: string) {
  const standing = await store.readDocument(storeKeys.sourceDocument(sha256), sourceDocumentSchema);
  const retired = await store.readDocument(storeKeys.retiredSource(sha256), retiredSourceSchema);
  return { standing: standing?.value, retired: retired?.value };
}

/** @returns those named by a workload that is not known to have ended long ago: it may still have to be built. */
async function neededSources(
  store: ObjectStore,
  candidates: ReadonlySet<string>,
  { keepMs, now, onProgress }: PruneSourcesOptions,
): Promise<Set<string>> {
  const documents = createWorkloadDocuments(store);
  const needed = new Set<string>();
  for await (const { key } of store.listAll(storeKeys.workloadSpecs)) {
    if (!key.endsWith('/spec.json')) continue;
    onProgress?.();
    const spec = (await store.readDocument(key, specDocumentSchema))?.value;
    const sha256 = spec?.request.source?.sha256;
    if (spec === undefined || sha256 === undefined || !candidates.has(sha256) || needed.has(sha256)) continue;
    const state = await documents.result(spec.workloadId);
    const isOver = state !== undefined && isFinal(state.stage) && now - Date.parse(state.updatedAt) > keepMs;
    if (!isOver) needed.add(sha256);
  }
  return needed;
}

/** @returns whether the sources are gone */
async function removeOrKeep(
  store: ObjectStore,
  sha256: string,
  isNeeded: boolean,
  { now }: PruneSourcesOptions,
): Promise<boolean> {
  const { standing, retired } = await read(store, sha256);
  const isNewUpload = retired !== undefined && standing?.storedAt !== retired.storedAt;
  if (standing !== undefined && !isNeeded && !isNewUpload) {
    await retire(store, standing, now);
    return false;
  }
  if (retired === undefined) return false;
  const isGone = standing === undefined && !isNeeded;
  if (isGone) await removeTar(store, sha256);
  else if (standing === undefined && (await store.headBlob(storeKeys.sourceTar(sha256))) !== undefined) {
    const { retiredAt: _retiredAt, ...document } = retired;
    await writeOnce(store, storeKeys.sourceDocument(sha256), document);
  }
  await store.delete(storeKeys.retiredSource(sha256));
  return isGone;
}

/** The first step; repeated where it was interrupted, because the pause counts from its end. */
async function retire(store: ObjectStore, standing: SourceDocument, now: number): Promise<void> {
  const retiredAt = new Date(now).toISOString();
  await store.writeDocument(storeKeys.retiredSource(standing.sha256), { ...standing, retiredAt });
  await store.delete(storeKeys.sourceDocument(standing.sha256));
}

async function removeTar(store: ObjectStore, sha256: string): Promise<void> {
  const keys = { document: storeKeys.sourceDocument(sha256), tar: storeKeys.sourceTar(sha256) };
  await store.delete(keys.tar);
  // An upload whose document arrived in between puts its tar again if it is missing; an upload that died has no tar.
  const uploaded = await store.readDocument(keys.document, sourceDocumentSchema);
  if (uploaded !== undefined && (await store.headBlob(keys.tar)) === undefined) await store.delete(keys.document);
}
