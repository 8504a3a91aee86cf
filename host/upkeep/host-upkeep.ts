/** The regular maintenance of a host: one sweep of everything, by itself and when asked. */
import { messageOf } from '../../domain/failures.ts';
import { workloadIdOf } from '../../domain/names.ts';
import { ownerWorkflowId } from '../../domain/owner.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import type { HostLogger } from '../host-logger.ts';
import type { HostLogs } from '../logs/host-logs.ts';
import type { Templates } from '../templates/template-store.ts';
import type { FreedNotices } from './freed-notices.ts';
import type { SweepReport } from './sweep.ts';

export interface HostUpkeepOptions {
  readonly sweeper: { run(): Promise<SweepReport> };
  readonly releases: FreedNotices;
  /** Removes images that nobody needs. */
  readonly sweepImages: () => Promise<void>;
  readonly templates: Pick<Templates, 'collect'> | undefined;
  readonly driver: Pick<VmDriver, 'list' | 'inspect'>;
  readonly logs: Pick<HostLogs, 'prune'>;
  /** Spools of workloads without a VM here are removed after this, ms. */
  readonly pruneAfterMs: number;
  /** Pause between two sweeps, ms. */
  readonly everyMs: number;
  readonly onSwept: (report: SweepReport) => void;
  readonly logger: HostLogger;
}

export interface HostUpkeep {
  /** One at a time; each call starts a new sweep. */
  sweep(): Promise<SweepReport>;
  /** Begins to sweep by itself. */
  start(): void;
  /** No new sweep begins; waits for one that runs. */
  stop(): Promise<void>;
}

export function createHostUpkeep(options: HostUpkeepOptions): HostUpkeep {
  const { everyMs, logger } = options;
  let timer: NodeJS.Timeout | undefined;
  let sweeping: Promise<unknown> = Promise.resolve();
  let isOver = false;

  const sweep = (): Promise<SweepReport> => {
    const run = sweeping.then(() => sweepOnce(options));
    sweeping = run.catch(() => undefined);
    return run;
  };
  const sweepSoon = (afterMs: number): void => {
    if (isOver) return;
    timer = setTimeout(() => {
      void sweep()
        .catch((error: unknown) => logger.warn({ reason: messageOf(error) }, 'a sweep failed; nothing was freed'))
        .finally(() => sweepSoon(everyMs));
    }, afterMs);
  };
  return {
    sweep,
    start: () => sweepSoon(0),
    async stop() {
      isOver = true;
      clearTimeout(timer);
      await sweeping;
    },
  };
}

async function sweepOnce(options: HostUpkeepOptions): Promise<SweepReport> {
  const report = await options.sweeper.run();
  options.onSwept(report);
  await options.templates?.collect();
  await tellFreed(options, report);
  await options.sweepImages();
  const inUse = new Set<string>();
  for (const vmId of await options.driver.list()) {
    const found = await options.driver.inspect(vmId).catch(() => undefined);
    // The owner of a VM with a damaged record is unknown: then no log is safe to remove.
    if (found === undefined) return report;
    inUse.add(found.owner.workflowId);
  }
  await options.logs.prune(options.pruneAfterMs, (owner) => inUse.has(ownerWorkflowId(owner)));
  return report;
}

/** What cannot be recorded now is recorded later, when the maintenance asks. */
async function tellFreed({ releases, logger }: HostUpkeepOptions, { freedOf }: SweepReport): Promise<void> {
  const workloadIds = freedOf.flatMap((workflowId) => workloadIdOf(workflowId) ?? []);
  await releases.settle(workloadIds).catch((error: unknown) => {
    const reason = messageOf(error);
    logger.warn({ workloadIds, reason }, 'it is not told yet that these hold nothing here any more');
  });
}
