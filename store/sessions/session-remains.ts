/** What is left of a thread in the store, and how it is removed. */
import { historyDocumentSchema } from '../../contracts/store/archive.ts';
import { runRecordSchema } from '../../contracts/store/session-documents.ts';
import { isKilnError } from '../../domain/failures.ts';
import { type SessionName, sessionWorkflowId, storeKeys } from '../../domain/names.ts';
import type { SessionRemains } from '../../ports/session-books.ts';
import type { ObjectStore } from '../object-store.ts';

/** Deletes on their way at a time. */
const AT_ONCE = 20;

type Store = Pick<ObjectStore, 'listAll' | 'delete' | 'readDocument' | 'writeDocument'>;

/** @returns the remover of a store. @param clock milliseconds since 1970 */
export function createSessionRemains(store: Store, clock: () => number = Date.now): SessionRemains {
  return {
    async remove(name) {
      const earlier = Array.from({ length: name.incarnation }, (_, n) => ({ ...name, incarnation: n + 1 }));
      // First what all sealed messages need: from then on nobody reads them, wherever they are.
      for (const session of earlier) await store.delete(storeKeys.sessionKey(session));
      // A call that is late must not take what a next session of the thread has by then.
      for (const session of earlier) await removeAll(store, storeKeys.incarnation(session), () => true);
      await removeAll(store, storeKeys.runs(name), async (key) => {
        const run = await store.readDocument(key, runRecordSchema).catch(undefinedIfDamaged);
        return run === undefined || run.value.incarnation <= name.incarnation;
      });
      const deletedAt = new Date(clock()).toISOString();
      for (const session of earlier) await removeArchive(store, session, deletedAt);
    },
  };
}

/** Whose a damaged record was is not known: it is of no use to anybody. */
function undefinedIfDamaged(error: unknown): undefined {
  if (!isKilnError(error, 'STORE_CONFLICT')) throw error;
}

/** The stub comes first: the recorder records nothing beside it. */
async function removeArchive(store: Store, session: SessionName, deletedAt: string): Promise<void> {
  const workflowId = sessionWorkflowId(session);
  const stub = storeKeys.archivedHistory(workflowId);
  const standing = (await store.readDocument(stub, historyDocumentSchema))?.value;
  if (standing?.deletedAt === undefined) {
    const recordedAt = standing?.recordedAt ?? deletedAt;
    await store.writeDocument(stub, { schemaVersion: 1, workflowId, executions: [], recordedAt, deletedAt });
  }
  await removeAll(store, storeKeys.archive(workflowId), (key) => key !== stub);
}

async function removeAll(
  store: Store,
  prefix: string,
  isMeant: (key: string) => boolean | Promise<boolean>,
): Promise<void> {
  let batch: string[] = [];
  const remove = async () => {
    await Promise.all(batch.map(async (key) => ((await isMeant(key)) ? store.delete(key) : undefined)));
    batch = [];
  };
  for await (const { key } of store.listAll(prefix)) {
    batch.push(key);
    if (batch.length >= AT_ONCE) await remove();
  }
  await remove();
}
