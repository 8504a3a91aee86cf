/**
 * Removes uploaded sources that no workload needs any more, in two steps with a pause between them: first new workloads
 * can no longer use them, then, if nobody has come to need them meanwhile, they go. A create that is under way during
 * the first step is seen by the second.
 */
import { retiredSourceSchema, sourceDocumentSchema } from '../contracts/source.ts';
import { specDocumentSchema } from '../contracts/workload-documents.ts';
import { storeKeys } from '../domain/names.ts';
import { isFinal } from '../domain/stages.ts';
import type { ObjectStore } from './object-store.ts';
import { createWorkloadDocuments } from './workload-documents.ts';
import { writeOnce } from './write-once.ts';

export interface PruneSourcesOptions {
  /** Since they were uploaded, and since the end of the last workload that was made of them, ms. */
  readonly keepMs: number;
  /** Between the two steps, ms: longer than a create may take. */
  readonly graceMs: number;
  /** Milliseconds since 1970. */
  readonly now: number;
  /** Sources looked at in this call. */
  readonly maxSources: number;
  /** `next` of an earlier call. */
  readonly after?: string;
  /** Called again and again. @throws to end early: what is done stays done */
  readonly onProgress?: () => void;
}

export interface PrunedSources {
  /** Sources that are gone now. */
  readonly removed: number;
  /** Where to go on; absent: all were looked at. */
  readonly next?: string;
}

/** May be repeated and cut off anywhere. @throws STORE_UNAVAILABLE */
export async function pruneSources(store: ObjectStore, options: PruneSourcesOptions): Promise<PrunedSources> {
  const { after, maxSources } = options;
  const page = await store.list(storeKeys.sources, {
    delimiter: '/',
    limit: maxSources,
    ...(after === undefined ? {} : { after }),
  });
  const digests = page.folders
    // A server may name the folder again that the page begins after.
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
  return { removed, ...(page.next === undefined ? {} : { next: page.next }) };
}

async function isOld(store: ObjectStore, sha256: string, { keepMs, graceMs, now }: PruneSourcesOptions) {
  const retired = (await store.readDocument(storeKeys.retiredSource(sha256), retiredSourceSchema))?.value;
  if (retired !== undefined) return now - Date.parse(retired.retiredAt) > graceMs;
  const standing = (await store.readDocument(storeKeys.sourceDocument(sha256), sourceDocumentSchema))?.value;
  return standing !== undefined && now - Date.parse(standing.storedAt) > keepMs;
}

/** @returns those that a workload names which is not known to be over for long: it may still have to be built. */
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
  const keys = { document: storeKeys.sourceDocument(sha256), retired: storeKeys.retiredSource(sha256) };
  const standing = (await store.readDocument(keys.document, sourceDocumentSchema))?.value;
  const retired = (await store.readDocument(keys.retired, retiredSourceSchema))?.value;
  if (retired === undefined) {
    if (isNeeded || standing === undefined) return false;
    await writeOnce(store, keys.retired, { ...standing, retiredAt: new Date(now).toISOString() });
    await store.delete(keys.document);
    return false;
  }
  if (isNeeded && standing === undefined) {
    const { retiredAt: _retiredAt, ...document } = retired;
    await writeOnce(store, keys.document, document);
  }
  const isGone = !isNeeded && standing === undefined;
  if (isGone) {
    await store.delete(storeKeys.sourceTar(sha256));
    // An upload whose document came in between puts its tar again where it finds none; one that died has no tar.
    const uploaded = await store.readDocument(keys.document, sourceDocumentSchema);
    const hasTar = (await store.headBlob(storeKeys.sourceTar(sha256))) !== undefined;
    if (uploaded !== undefined && !hasTar) await store.delete(keys.document);
  }
  await store.delete(keys.retired);
  return isGone;
}
