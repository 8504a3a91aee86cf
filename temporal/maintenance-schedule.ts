/** The Schedule that runs the maintenance: found or made by every control worker that starts. */

import {
  type Client,
  ScheduleAlreadyRunning,
  type ScheduleHandle,
  type ScheduleOptions,
  ScheduleOverlapPolicy,
} from '@temporalio/client';
import { canonicalJson } from '../contracts/canonical-json.ts';
import { defined } from '../domain/defined.ts';
import { CONTROL_QUEUE, MAINTENANCE_PREFIX, MAINTENANCE_SCHEDULE } from '../domain/names.ts';
import type { MaintenanceInput } from '../domain/upkeep/maintenance.ts';

/** The server takes no shorter one. */
const MIN_CATCHUP_MS = 10_000;
const WORKFLOW = 'maintenanceWorkflow';

export interface MaintenanceScheduleOptions {
  /** From the start of one run to the start of the next, ms. A run that goes on longer makes the next one skip. */
  readonly everyMs: number;
  readonly input: MaintenanceInput;
}

/**
 * Finds or makes the Schedule and gives it these settings; whether it is paused stays as it is.
 * @returns what was done @throws what the server answers
 */
export async function ensureMaintenanceSchedule(
  client: Client,
  options: MaintenanceScheduleOptions,
): Promise<'made' | 'changed' | 'found'> {
  const wanted = scheduleOf(options);
  try {
    await client.schedule.create(wanted);
    return 'made';
  } catch (error) {
    if (!(error instanceof ScheduleAlreadyRunning)) throw error;
  }
  const handle = client.schedule.getHandle(MAINTENANCE_SCHEDULE);
  if (await isSame(handle, options)) return 'found';
  const { spec, action, policies } = wanted;
  await handle.update(({ state }) => ({ spec, action, ...defined({ policies }), state }));
  return 'changed';
}

function scheduleOf({ everyMs, input }: MaintenanceScheduleOptions) {
  return {
    scheduleId: MAINTENANCE_SCHEDULE,
    spec: { intervals: [{ every: everyMs }] },
    action: {
      type: 'startWorkflow',
      workflowType: WORKFLOW,
      workflowId: `${MAINTENANCE_PREFIX}scheduled`,
      taskQueue: CONTROL_QUEUE,
      args: [input],
      staticSummary: 'archive, sweeps, removal of what is old',
    },
    // A machine that slept makes up for one run, not for all that it has slept through.
    policies: { overlap: ScheduleOverlapPolicy.SKIP, catchupWindow: Math.max(everyMs, MIN_CATCHUP_MS) },
  } as const satisfies ScheduleOptions;
}

async function isSame(handle: ScheduleHandle, { everyMs, input }: MaintenanceScheduleOptions): Promise<boolean> {
  const { spec, action, policies } = await handle.describe();
  const every = spec.intervals?.map((interval) => Number(interval.every)).join();
  return (
    every === String(everyMs) &&
    policies.overlap === ScheduleOverlapPolicy.SKIP &&
    canonicalJson(action.args ?? []) === canonicalJson([input])
  );
}
