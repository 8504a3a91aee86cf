import { readEnvironment } from '../../../config/environment.ts';
import type { CapSettings } from '../../../vmm/limits/group-caps.ts';
import { openLimits } from '../../../vmm/limits/open-limits.ts';
import type { VmLimits } from '../../../vmm/limits/vm-limits.ts';
import { silentLog } from './vm-fixtures.ts';

/**
 * Control groups as this machine has them: where KILN_CGROUP_PARENT says, else the group of this process, else those of
 * the older hierarchies.
 * @throws HYPERVISOR_UNAVAILABLE where it has none
 */
export async function machineLimits(stateDir: string, caps: Partial<CapSettings> = {}): Promise<VmLimits> {
  const parent = readEnvironment().KILN_CGROUP_PARENT;
  const options = { stateDir, caps, log: silentLog };
  if (parent !== undefined) return openLimits({ ...options, parent, mode: 'required' });
  const own = await openLimits({ ...options, mode: 'auto' });
  return own.kind === 'none' ? openLimits({ ...options, parent: 'cgroup1', mode: 'required' }) : own;
}
