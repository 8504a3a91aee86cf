import type { Client } from '@temporalio/client';
import { createClosedExecutions } from '../../client/temporal/archive/closed-executions.ts';
import { type ClientTimings, DEFAULT_CLIENT_TIMINGS } from '../../client/temporal/client-timings.ts';
import { settleResult } from '../../client/temporal/workloads/settle-result.ts';
import { CONTROL_QUEUE } from '../../domain/names.ts';
import type { MaintenancePorts } from '../../ports/maintenance.ts';
import { createHistoryArchive } from '../../store/archive/history-archive.ts';
import { createHostDirectory } from '../../store/hosts/host-directory.ts';
import { pruneLogs } from '../../store/logs/log-pruning.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { repairSaves } from '../../store/sessions/saves/repair-round.ts';
import { pruneSources } from '../../store/sources/source-pruning.ts';
import { createWorkloadDocuments } from '../../store/workloads/workload-documents.ts';

/** Histories are large and nobody waits for them. */
const PATIENT: ClientTimings = { ...DEFAULT_CLIENT_TIMINGS, callMs: 60_000, queryMs: 10_000 };
/** Pause between the step after which new workloads cannot use sources and the step that removes them. */
const SOURCE_GRACE_MS = 3_600_000;

/** @returns the ports of the maintenance activities, over a Temporal client and the store. */
export function createMaintenancePorts(options: {
  readonly client: Client;
  readonly store: ObjectStore;
  readonly timings?: Partial<ClientTimings>;
}): MaintenancePorts {
  const { client, store } = options;
  const documents = createWorkloadDocuments(store);
  const timings = { ...PATIENT, ...options.timings };
  const context = { client, timings, archive: documents, taskQueue: CONTROL_QUEUE };
  return {
    closed: {
      ...createClosedExecutions(context),
      settleResult: (workloadId, settling) => settleResult(context, workloadId, settling),
    },
    archive: createHistoryArchive(store),
    left: documents,
    hosts: createHostDirectory(store),
    pruning: {
      logs: ({ step, ...more }) => pruneLogs(store, { ...more, maxWorkloads: step }),
      sources: ({ step, ...more }) => pruneSources(store, { ...more, maxSources: step, graceMs: SOURCE_GRACE_MS }),
      saves: ({ step, ...more }) => repairSaves(store, { ...more, maxChecked: step }),
    },
  };
}
