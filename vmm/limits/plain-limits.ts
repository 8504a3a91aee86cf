import type { VmProcess } from '../../contracts/host/instance-record.ts';
import { defined } from '../../domain/defined.ts';
import type { VmUsage } from '../../ports/vm-driver.ts';
import { removeGroup } from './control-groups.ts';
import { readGroupRecord } from './group-record.ts';
import { launchInGroup } from './launch-in-group.ts';
import { processUsage } from './process-usage.ts';
import type { VmLimits } from './vm-limits.ts';

/** Without control groups: sets only what the kernel kills first, and reads a VM's usage from its process. */
export const plainLimits: VmLimits = {
  kind: 'none',
  make: async () => [],
  launch: async (_record, command) => launchInGroup(command, []),
  explain: async (_vmId, _directory, exit) => exit,
  usage: (_vmId, _directory, process) => usageOfProcess(process),
  // A worker with other settings may have left one.
  release: (_vmId, directory, options) => releaseRecorded(directory, options),
  list: async () => [],
};

/** @returns what a VM's process uses; undefined where it is gone */
export async function usageOfProcess(process: VmProcess): Promise<VmUsage | undefined> {
  const used = await processUsage(process);
  if (used === undefined) return undefined;
  return {
    source: 'process',
    cpuMs: used.cpuMs,
    memoryBytes: used.rssBytes,
    ...defined({ memoryPeakBytes: used.peakRssBytes, shareBytes: used.pssBytes }),
  };
}

/** Removes the group that a VM's directory names, if any. */
export async function releaseRecorded(
  directory: string,
  options: { pollMs: number; timeoutMs: number },
): Promise<void> {
  // A damaged file does not matter: where there are groups, they are found by the name of the VM.
  const group = await readGroupRecord(directory).catch(() => undefined);
  if (group !== undefined) await removeGroup(group, options);
}
