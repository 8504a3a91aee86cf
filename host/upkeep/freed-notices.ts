/** Records that this host holds nothing more of a finished workload whose end had left something. */

import { shortHash, workloadWorkflowId } from '../../domain/names.ts';
import type { Unreleased } from '../../domain/workload/workload.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import { findStrayVms } from '../../vmm/stray-vms.ts';
import type { HostCapacityLedger } from '../capacity/ledger.ts';

export interface FreedNoticesOptions {
  readonly hostId: string;
  readonly stateDir: string;
  readonly runtimeDir: string;
  readonly driver: Pick<VmDriver, 'list' | 'inspect'>;
  readonly ledger: Pick<HostCapacityLedger, 'list'>;
  readonly records: {
    /** The final state; undefined where the workload is not known to be over. */
    result(workloadId: string): Promise<{ readonly unreleased: readonly Unreleased[] } | undefined>;
    /** Recorded once: the first proof counts. */
    noteFreed(release: { workloadId: string; hostId: string; freedAt: string }): Promise<void>;
  };
  readonly now?: () => number;
}

export interface FreedNotices {
  /**
   * Looks for everything of these workloads on this host and records in the archive where nothing is left. Only for
   * those that are over and whose end names this host.
   * @throws where something here cannot be read: then nothing is proven
   */
  settle(workloadIds: readonly string[]): Promise<{ freed: readonly string[]; held: readonly string[] }>;
}

export function createFreedNotices(options: FreedNoticesOptions): FreedNotices {
  const { hostId, records } = options;
  const now = options.now ?? Date.now;
  return {
    settle: async (workloadIds) => {
      const freed: string[] = [];
      const held: string[] = [];
      for (const workloadId of new Set(workloadIds)) {
        const state = await records.result(workloadId);
        if (!state?.unreleased.some((left) => left.hostId === hostId)) continue;
        // Checked again each time: the proof must come after the end of the workload.
        if (await holds(options, workloadWorkflowId(workloadId))) held.push(workloadId);
        else {
          await records.noteFreed({ workloadId, hostId, freedAt: new Date(now()).toISOString() });
          freed.push(workloadId);
        }
      }
      return { freed, held };
    },
  };
}

/** Reservations and records name their owner; for what has no record, its own name does. */
async function holds({ driver, ledger, ...dirs }: FreedNoticesOptions, workflowId: string): Promise<boolean> {
  if ((await ledger.list()).some(({ ownerWorkflowId }) => ownerWorkflowId === workflowId)) return true;
  for (const vmId of await driver.list()) {
    if ((await driver.inspect(vmId))?.owner.workflowId === workflowId) return true;
  }
  const prefix = `${shortHash(workflowId)}-`;
  return (await findStrayVms(dirs)).some((vmId) => vmId.startsWith(prefix));
}
