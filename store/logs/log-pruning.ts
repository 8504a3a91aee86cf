/** Removes the logs of workloads that ended long ago. Their state and history stay in the archive. */
import { defined } from '../../domain/defined.ts';
import { isLogExpired, type LogRetention } from '../../domain/logs/log-retention.ts';
import { storeKeys, WORKLOAD_ID_PATTERN } from '../../domain/names.ts';
import type { ObjectStore } from '../object-store.ts';
import { createWorkloadDocuments } from '../workloads/workload-documents.ts';

export interface PruneLogsOptions extends LogRetention {
  /** Milliseconds since 1970. */
  readonly now: number;
  /** How many workloads this call checks; `next` of the result continues after them. Default: all. */
  readonly maxWorkloads?: number;
  /** `next` of an earlier call. */
  readonly after?: string;
  /** Called after every workload, e.g. to send a heartbeat. @throws to end early: what was removed stays removed */
  readonly onProgress?: () => void;
}

export interface PrunedLogs {
  /** Workloads whose log was checked. */
  readonly seen: number;
  /** Workloads whose log is gone now. */
  readonly removed: number;
  readonly objects: number;
  readonly bytes: number;
  /** Where to continue; absent: everything was checked. */
  readonly next?: string;
}

/**
 * May be repeated and may be interrupted anywhere: oldest chunks go first, so that the rest of a log is its end.
 * A workload without an archived final state keeps its log: it may still run.
 * @throws STORE_UNAVAILABLE
 */
export async function pruneLogs(store: ObjectStore, options: PruneLogsOptions): Promise<PrunedLogs> {
  const documents = createWorkloadDocuments(store);
  const sum = { seen: 0, removed: 0, objects: 0, bytes: 0 };
  let { after } = options;
  do {
    const page = await store.list(storeKeys.allLogs, { delimiter: '/', ...defined({ after }) });
    for (const folder of page.folders) {
      // A server may list the folder again after which the page begins.
      if (after !== undefined && folder <= after) continue;
      if (sum.seen >= (options.maxWorkloads ?? Number.POSITIVE_INFINITY)) {
        return { ...sum, ...defined({ next: after }) };
      }
      after = folder;
      sum.seen += 1;
      const workloadId = folder.slice(storeKeys.allLogs.length, -1);
      if (!WORKLOAD_ID_PATTERN.test(workloadId)) continue;
      if (isLogExpired(await documents.result(workloadId), options, options.now)) {
        for await (const { key, bytes } of store.listAll(folder)) {
          await store.delete(key);
          sum.objects += 1;
          sum.bytes += bytes;
        }
        sum.removed += 1;
      }
      options.onProgress?.();
    }
    after = page.next;
  } while (after !== undefined);
  return sum;
}
