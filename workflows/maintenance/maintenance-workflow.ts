import { continueAsNew, setHandler } from '@temporalio/workflow';
import type { PrunedStep, SweepPlan } from '../../activities/maintenance/maintenance-types.ts';
import {
  assertMaintenanceInput,
  type HostUpkeepReport,
  type MaintenanceInput,
  type MaintenanceReport,
} from '../../domain/upkeep/maintenance.ts';
import { judge } from '../activity-verdict.ts';
import { guardInput } from '../input-guard.ts';
import { maintenanceQuery } from '../messages.ts';
import { setAttributes } from '../search-attributes.ts';
import { hostUpkeep } from './maintenance-activities.ts';
import { MaintenanceContext } from './maintenance-context.ts';
import { record } from './record-step.ts';

/**
 * One run of the maintenance: records the histories of closed executions, asks each host to sweep, removes old data.
 * Every step may be repeated or interrupted at any point. The run reports what failed; the next run does it.
 */
export async function maintenanceWorkflow(input: MaintenanceInput): Promise<MaintenanceReport> {
  guardInput(() => assertMaintenanceInput(input));
  const ctx = new MaintenanceContext(input);
  setHandler(maintenanceQuery, () => ctx.report);
  const scan = await ctx.step('record histories', () => record(ctx, input.carried?.scan));
  if (scan !== undefined) {
    await continueAsNew<typeof maintenanceWorkflow>({ ...input, carried: { report: ctx.report, scan } });
  }
  if (input.sweepHosts !== false) await ctx.step('sweep hosts', () => sweepHosts(ctx));
  const { logsMs, sourcesMs, saveGarbageMs } = input.keep ?? {};
  if (logsMs !== undefined) await ctx.step('remove old logs', () => pruneLogs(ctx, logsMs));
  if (sourcesMs !== undefined) await ctx.step('remove old sources', () => pruneSources(ctx, sourcesMs));
  if (saveGarbageMs !== undefined) await ctx.step('repair saves', () => repairSaves(ctx, saveGarbageMs));
  if (ctx.report.problems.length > 0) setAttributes({ KilnAttention: 'MAINTENANCE' });
  ctx.begin('done');
  return ctx.report;
}

async function sweepHosts(ctx: MaintenanceContext): Promise<void> {
  const { hosts } = await ctx.control.planSweeps({ maxUnreleased: ctx.policies.maxUnreleased });
  ctx.update({ hosts: await Promise.all(hosts.map((plan) => sweepHost(ctx, plan))) });
}

/** A host that never comes back stays registered, so the run shows its silence but does not count it as a problem. */
async function sweepHost(ctx: MaintenanceContext, { hostId, workloadIds }: SweepPlan): Promise<HostUpkeepReport> {
  try {
    return await hostUpkeep(hostId, ctx.policies).sweepHost({ workloadIds });
  } catch (error) {
    const verdict = judge(error);
    if (verdict.kind === 'cancelled') throw error;
    if (verdict.kind !== 'suspicion') ctx.problem(`sweep of ${hostId}: ${verdict.message}`);
    return { hostId, swept: false, destroyed: 0, freed: 0, held: workloadIds.length };
  }
}

async function pruneLogs(ctx: MaintenanceContext, logsMs: number): Promise<void> {
  const { control, policies } = ctx;
  const logs = await stepwise((after) =>
    control.pruneLogs({ logsMs, nowMs: Date.now(), step: policies.pruneStep, ...after }),
  );
  ctx.update({ pruned: { ...ctx.report.pruned, logs } });
}

async function pruneSources(ctx: MaintenanceContext, sourcesMs: number): Promise<void> {
  const { control, policies } = ctx;
  const sources = await stepwise((after) =>
    control.pruneSources({ sourcesMs, nowMs: Date.now(), step: policies.pruneStep, ...after }),
  );
  ctx.update({ pruned: { ...ctx.report.pruned, sources } });
}

async function repairSaves(ctx: MaintenanceContext, saveGarbageMs: number): Promise<void> {
  const { control, policies } = ctx;
  const everyMs = policies.repairEveryMs;
  for (let goesOn = true; goesOn; ) {
    const step = { nowMs: Date.now(), step: policies.pruneStep };
    const { removed, problems, more } = await control.repairSaves({ saveGarbageMs, everyMs, ...step });
    ctx.update({ pruned: { ...ctx.report.pruned, saves: (ctx.report.pruned.saves ?? 0) + removed } });
    for (const problem of problems) ctx.problem(`saves that are left as they are: ${problem}`);
    goesOn = more;
  }
}

/** @returns how much all steps removed together. */
async function stepwise(prune: (after: { after?: string }) => Promise<PrunedStep>): Promise<number> {
  let removed = 0;
  let after: string | undefined;
  do {
    const step = await prune(after === undefined ? {} : { after });
    removed += step.removed;
    after = step.next;
  } while (after !== undefined);
  return removed;
}
