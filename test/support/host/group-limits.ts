import { readEnvironment } from '../../../config/environment.ts';
import type { CapSettings } from '../../../vmm/limits/group-caps.ts';
import { openLimits } from '../../../vmm/limits/open-limits.ts';
import type { VmLimits } from '../../../vmm/limits/vm-limits.ts';
import { silentLog } from './vm-fixtures.ts';

/**
 * The control groups of this machine: below KILN_CGROUP_PARENT if it is set, else below the group of this process, else
 * those of the older hierarchies (cgroup v1).
 * @throws HYPERVISOR_UNAVAILABLE if there are none
 */
export async function machineLimits(stateDir: string, caps: Partial<CapSettings> = {}): Promise<VmLimits> {
  const parent = readEnvironment().KILN_CGROUP_PARENT;
  const options = { stateDir, caps, log: silentLog };
  if (parent !== undefined) return openLimits({ ...options, parent, mode: 'required' });
  const own = await openLimits({ ...options, mode: 'auto' });
  return own.kind === 'none' ? openLimits({ ...options, parent: 'cgroup1', mode: 'required' }) : own;
}
