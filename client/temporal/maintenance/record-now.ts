/** Runs the archive's recorder on demand: one maintenance run that records and asks hosts, and removes nothing. */
import type { z } from 'zod';
import { maintenanceReportSchema } from '../../../contracts/api/maintenance.ts';
import { CONTROL_QUEUE, MAINTENANCE_PREFIX } from '../../../domain/names.ts';
import type { MaintenanceInput } from '../../../domain/upkeep/maintenance.ts';
import { MAINTENANCE_WORKFLOW } from '../../../workflows/messages.ts';
import type { ClientContext } from '../client-context.ts';
import { isUnavailable, withDeadline } from '../temporal-calls.ts';

/** @returns the report, or undefined where the run takes longer than `waitMs`; the run continues. */
export type RecordNow = (waitMs: number) => Promise<z.infer<typeof maintenanceReportSchema> | undefined>;

/** @returns a function that @throws TEMPORAL_UNAVAILABLE. Two callers at the same time share one run. */
export function createRecordNow(
  context: Pick<ClientContext, 'client' | 'timings'> & { readonly taskQueue?: string },
  input: Omit<MaintenanceInput, 'schemaVersion' | 'keep' | 'carried'> = {},
): RecordNow {
  const { client, timings, taskQueue = CONTROL_QUEUE } = context;
  return async (waitMs) => {
    const handle = await withDeadline(client, timings.callMs, () =>
      client.workflow.start(MAINTENANCE_WORKFLOW, {
        args: [{ ...input, schemaVersion: 1 } satisfies MaintenanceInput],
        taskQueue,
        workflowId: `${MAINTENANCE_PREFIX}on-demand`,
        workflowIdConflictPolicy: 'USE_EXISTING',
        workflowIdReusePolicy: 'ALLOW_DUPLICATE',
        staticSummary: 'archive and sweeps, asked for',
      }),
    );
    if (waitMs === 0) return undefined;
    try {
      return maintenanceReportSchema.parse(await withDeadline(client, waitMs, () => handle.result()));
    } catch (error) {
      if (isUnavailable(error)) return undefined;
      throw error;
    }
  };
}
