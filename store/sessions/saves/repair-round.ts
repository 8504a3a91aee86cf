/** Deletes saves of sessions that are over, and repairs those of all others, a step at a time: docs/sessions/saves.md. */
import { saveRepairSchema } from '../../../contracts/store/save-documents.ts';
import { defined } from '../../../domain/defined.ts';
import { isKilnError, messageOf } from '../../../domain/failures.ts';
import { sessionNameOf, sessionWorkflowId, storeKeys } from '../../../domain/names.ts';
import { MAX_PROBLEMS } from '../../../domain/upkeep/maintenance.ts';
import type { RepairedSaves } from '../../../ports/maintenance.ts';
import { foldersBelow } from '../../folders-below.ts';
import { dueMarkers, removeEnded } from './ended-saves.ts';
import { type RepairOptions, type RepairStore, repairSession } from './save-repair.ts';

export interface RepairSavesOptions {
  /** What nothing names is kept for so long after it was written, ms. */
  readonly keepMs: number;
  /** From the beginning of one round through all sessions to the beginning of the next, ms. */
  readonly everyMs: number;
  /** Milliseconds since 1970. */
  readonly now: number;
  /** How many markers of ended sessions, and threads, this call checks. */
  readonly maxChecked: number;
  /** Called again and again, e.g. to send a heartbeat. @throws to end early: what is done stays done */
  readonly onProgress: () => void;
}

/**
 * One step of a round; where it is, the store remembers, so that a round that was interrupted goes on.
 * @throws STORE_UNAVAILABLE
 */
export async function repairSaves(store: RepairStore, options: RepairSavesOptions): Promise<RepairedSaves> {
  const { keepMs, everyMs, now, maxChecked, onProgress } = options;
  const last = (await store.readDocument(storeKeys.saveRepair, saveRepairSchema).catch(undefinedIfDamaged))?.value;
  const isDue = last === undefined || now - Date.parse(last.startedAt) >= everyMs;
  if (!isDue && last.after === undefined) return { removed: 0, problems: [], more: false };
  const round = last?.after === undefined ? { startedAt: new Date(now).toISOString() } : last;
  const { startedAt } = round;
  const note = (after: string | undefined) =>
    store.writeDocument(storeKeys.saveRepair, { schemaVersion: 1, startedAt, ...defined({ after }) });
  await note(last?.after);
  const sum = { removed: 0, problems: [] as string[] };
  let checked = 0;
  for await (const { place, work } of placesAfter(store, last?.after, { keepMs, onProgress })) {
    const one = await work();
    sum.removed += one.removed;
    sum.problems = [...sum.problems, ...one.problems].slice(0, MAX_PROBLEMS);
    checked += 1;
    if (checked < maxChecked) continue;
    await note(place);
    return { ...sum, more: true };
  }
  await note(undefined);
  return { ...sum, more: false };
}

interface Done {
  readonly removed: number;
  readonly problems: readonly string[];
}

/** The places of a round, in the order of their keys: markers of ended sessions, then threads. */
async function* placesAfter(
  store: RepairStore,
  after: string | undefined,
  { keepMs, onProgress }: Pick<RepairSavesOptions, 'keepMs' | 'onProgress'>,
): AsyncGenerator<{ readonly place: string; readonly work: () => Promise<Done> }, undefined> {
  const nowMs = await storeTime(store);
  for await (const marker of dueMarkers(store, nowMs, after)) {
    yield { place: marker, work: () => told(marker, () => removeEnded(store, marker, { nowMs, onProgress })) };
  }
  const options = { writtenBeforeMs: nowMs - keepMs, onProgress };
  for await (const thread of threadsAfter(store, after)) {
    yield { place: thread, work: () => repairThread(store, thread, options) };
  }
  return undefined;
}

/** What is damaged is left as it is, and told: the others must not wait for it. */
async function told(what: string, work: () => Promise<number>): Promise<Done> {
  try {
    return { removed: await work(), problems: [] };
  } catch (error) {
    if (!isKilnError(error, 'SESSION_CORRUPT', 'STORE_CONFLICT')) throw error;
    return { removed: 0, problems: [`${what}: ${messageOf(error)}`] };
  }
}

/** Where nobody knows how far the round is, it begins. */
function undefinedIfDamaged(error: unknown): undefined {
  if (!isKilnError(error, 'STORE_CONFLICT')) throw error;
}

/** What has just been written tells what time it is for the store: by its clock all ages are measured. */
async function storeTime(store: RepairStore): Promise<number> {
  const { objects } = await store.list(storeKeys.saveRepair);
  return objects.find(({ key }) => key === storeKeys.saveRepair)?.modifiedMs ?? 0;
}

/** @param after `sessions/<project>/<thread>/`: only threads behind it */
async function* threadsAfter(store: RepairStore, after: string | undefined): AsyncGenerator<string, undefined> {
  for await (const project of foldersBelow(store, storeKeys.sessions)) {
    const isOver = after !== undefined && project < after && !after.startsWith(project);
    if (isOver) continue;
    yield* foldersBelow(store, project, after?.startsWith(project) === true ? after : undefined);
  }
  return undefined;
}

async function repairThread(store: RepairStore, thread: string, options: RepairOptions): Promise<Done> {
  const sum = { removed: 0, problems: [] as string[] };
  for await (const folder of foldersBelow(store, thread)) {
    options.onProgress();
    const session = sessionNameOf(`session/${folder.slice(storeKeys.sessions.length, -1)}`);
    if (session === undefined) continue;
    const { removed, problems } = await told(sessionWorkflowId(session), () => repairSession(store, session, options));
    sum.removed += removed;
    sum.problems.push(...problems);
  }
  return sum;
}
