import { workflowInfo } from '@temporalio/workflow';
import type { RecordedPage } from '../../activities/maintenance/maintenance-types.ts';
import { defined } from '../../domain/defined.ts';
import { nextScanFrom, type RecordScan } from '../../domain/upkeep/maintenance.ts';
import type { MaintenanceContext } from './maintenance-context.ts';

/**
 * Scans closed executions page by page and records those that are not recorded yet.
 * @param carried the scan that an earlier execution began
 * @returns the scan where another execution has to continue it; undefined where it is finished
 */
export async function record(
  ctx: MaintenanceContext,
  carried: RecordScan | undefined,
): Promise<RecordScan | undefined> {
  const { control, policies } = ctx;
  let scan = carried ?? { startedAt: new Date(Date.now()).toISOString(), ...(await control.recorderPosition()) };
  for (let pages = 1; ; pages++) {
    const page = await control.recordHistories({
      ...defined({ closedAfter: scan.closedAfter, token: scan.token }),
      pageSize: policies.pageSize,
      maxRecorded: policies.maxRecorded - ctx.report.recorded.executions,
      deriveAfterMs: policies.deriveAfterMs,
      nowMs: Date.now(),
    });
    note(ctx, page);
    scan = after(scan, page);
    // Where part of a page is not recorded yet, the next run begins where this one did.
    if (page.more) return undefined;
    if (scan.token === undefined) break;
    if (pages >= policies.pagesPerExecution || workflowInfo().continueAsNewSuggested) return scan;
  }
  await control.saveRecorderPosition({ closedBefore: nextScanFrom(scan, policies.overlapMs) });
  return undefined;
}

function after(scan: RecordScan, { next, earliestFailed }: RecordedPage): RecordScan {
  const { token: _token, ...rest } = scan;
  const failed = [scan.earliestFailed, earliestFailed].filter((at) => at !== undefined).sort()[0];
  return {
    ...rest,
    ...defined({ token: next, earliestFailed: failed }),
  };
}

function note(ctx: MaintenanceContext, page: RecordedPage): void {
  const { recorded } = ctx.report;
  ctx.update({
    recorded: {
      seen: recorded.seen + page.seen,
      executions: recorded.executions + page.executions,
      workflows: recorded.workflows + page.workflows,
      results: recorded.results + page.results,
      failed: recorded.failed + page.failed.length,
      more: page.more,
    },
  });
  for (const { workflowId, message } of page.failed) ctx.problem(`${workflowId} is not recorded yet: ${message}`);
}
