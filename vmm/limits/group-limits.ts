import { defined } from '../../domain/defined.ts';
import { KilnError, messageOf } from '../../domain/failures.ts';
import type { VmExit } from '../../domain/vm.ts';
import {
  type GroupTree,
  groupOf,
  listGroups,
  makeGroup,
  procsFiles,
  readGroup,
  removeGroup,
} from './control-groups.ts';
import { type CapSettings, groupCaps, type IoCap } from './group-caps.ts';
import { CGROUP1, CGROUP2, type GroupReading } from './group-layout.ts';
import { readGroupRecord, writeGroupRecord } from './group-record.ts';
import { launchInGroup } from './launch-in-group.ts';
import { releaseRecorded, usageOfProcess } from './plain-limits.ts';
import type { VmLimits } from './vm-limits.ts';

const MIB = 1024 * 1024;

/** One control group a VM, named by its id. */
export function groupLimits(tree: GroupTree, settings: CapSettings, io: IoCap | undefined): VmLimits {
  const reading = async (directory: string): Promise<GroupReading> => {
    const group = await readGroupRecord(directory).catch(() => undefined);
    return group === undefined ? {} : readGroup(group.kind === 'cgroup2' ? CGROUP2 : CGROUP1, group);
  };
  const make: VmLimits['make'] = async ({ vmId, vcpus, memMib }, directory) => {
    const group = groupOf(tree, vmId);
    await writeGroupRecord(directory, group);
    await makeGroup(tree, vmId, groupCaps({ vcpus, memMib }, settings, io)).catch((error: unknown) => {
      const said = messageOf(error);
      const fix = 'give the host worker a delegated cgroup2 group (KILN_CGROUP_PARENT)';
      throw new KilnError('HYPERVISOR_UNAVAILABLE', `VM ${vmId} cannot be limited: ${said}`, { vmId, fix }, error);
    });
    return procsFiles(group);
  };
  return {
    kind: tree.layout.kind,
    make,
    launch: async (record, command, directory) => launchInGroup(command, await make(record, directory)),
    explain: async (_vmId, directory, exit) => explainByMemory(exit, await reading(directory)),
    async usage(_vmId, directory, process) {
      const used = await usageOfProcess(process);
      const { cpuMs, memoryBytes, memoryPeakBytes, memoryLimitBytes } = await reading(directory);
      if (used === undefined || cpuMs === undefined || memoryBytes === undefined) return used;
      return {
        ...used,
        source: 'cgroup',
        cpuMs,
        memoryBytes,
        ...defined({ memoryPeakBytes, memoryLimitBytes }),
      };
    },
    async release(vmId, directory, options) {
      await releaseRecorded(directory, options);
      await removeGroup(groupOf(tree, vmId), options);
    },
    list: () => listGroups(tree),
  };
}

/** An end that the guest itself reported stays; any other one is the kernel's if it has killed for memory. Pure. */
export function explainByMemory(exit: VmExit, { oomKills, limitHits, memoryLimitBytes }: GroupReading): VmExit {
  if (exit.reason === 'guest-shutdown' || exit.reason === 'guest-panic') return exit;
  if (oomKills === undefined || oomKills === 0) return exit;
  if (limitHits === undefined || limitHits === 0) {
    return { ...exit, reason: 'killed', detail: 'the machine ran out of memory, and the kernel killed the VM for it' };
  }
  const limit = memoryLimitBytes === undefined ? '' : ` of ${Math.floor(memoryLimitBytes / MIB)} MiB`;
  return { ...exit, reason: 'memory-limit', detail: `the VM reached its memory limit${limit}, guest and VMM together` };
}
