/** Repairs the saves of all sessions, one step after another: docs/sessions/saves.md. */
import { saveRepairSchema } from '../../../contracts/store/save-documents.ts';
import { defined } from '../../../domain/defined.ts';
import { isKilnError, messageOf } from '../../../domain/failures.ts';
import { sessionNameOf, sessionWorkflowId, storeKeys } from '../../../domain/names.ts';
import { MAX_PROBLEMS } from '../../../domain/upkeep/maintenance.ts';
import type { RepairedSaves } from '../../../ports/maintenance.ts';
import { foldersBelow } from '../../folders-below.ts';
import { type RepairStore, repairSession } from './save-repair.ts';

export interface RepairSavesOptions {
  /** What nothing names is kept for so long after it was written, ms. */
  readonly keepMs: number;
  /** From the beginning of one round through all sessions to the beginning of the next, ms. */
  readonly everyMs: number;
  /** Milliseconds since 1970. */
  readonly now: number;
  /** How many threads this call checks. */
  readonly maxThreads: number;
  /** Called again and again, e.g. to send a heartbeat. @throws to end early: what is done stays done */
  readonly onProgress: () => void;
}

/**
 * One step of a round; where it is, the store remembers, so that a round that was interrupted goes on.
 * @throws STORE_UNAVAILABLE
 */
export async function repairSaves(store: RepairStore, options: RepairSavesOptions): Promise<RepairedSaves> {
  const { keepMs, everyMs, now, maxThreads, onProgress } = options;
  const last = (await store.readDocument(storeKeys.saveRepair, saveRepairSchema).catch(undefinedIfDamaged))?.value;
  const isDue = last === undefined || now - Date.parse(last.startedAt) >= everyMs;
  if (!isDue && last.after === undefined) return { removed: 0, problems: [], more: false };
  const round = last?.after === undefined ? { startedAt: new Date(now).toISOString() } : last;
  const { startedAt } = round;
  const note = (after: string | undefined) =>
    store.writeDocument(storeKeys.saveRepair, { schemaVersion: 1, startedAt, ...defined({ after }) });
  await note(last?.after);
  const writtenBeforeMs = (await storeTime(store)) - keepMs;
  const sum = { removed: 0, problems: [] as string[] };
  let threads = 0;
  for await (const thread of threadsAfter(store, last?.after)) {
    const one = await repairThread(store, thread, { writtenBeforeMs, onProgress });
    sum.removed += one.removed;
    sum.problems = [...sum.problems, ...one.problems].slice(0, MAX_PROBLEMS);
    threads += 1;
    if (threads < maxThreads) continue;
    await note(thread);
    return { ...sum, more: true };
  }
  await note(undefined);
  return { ...sum, more: false };
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

async function repairThread(store: RepairStore, thread: string, options: Parameters<typeof repairSession>[2]) {
  const sum = { removed: 0, problems: [] as string[] };
  for await (const folder of foldersBelow(store, thread)) {
    options.onProgress();
    const session = sessionNameOf(`session/${folder.slice(storeKeys.sessions.length, -1)}`);
    if (session === undefined) continue;
    try {
      sum.removed += await repairSession(store, session, options);
    } catch (error) {
      if (!isKilnError(error, 'SESSION_CORRUPT')) throw error;
      sum.problems.push(`${sessionWorkflowId(session)}: ${messageOf(error)}`);
    }
  }
  return sum;
}
