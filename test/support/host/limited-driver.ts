/** The QEMU driver of a worker that has just started: with this machine's control groups, and one user per project. */
import type { VmDriver } from '../../../ports/vm-driver.ts';
import type { CapSettings } from '../../../vmm/limits/group-caps.ts';
import { createQemuDriver } from '../../../vmm/qemu/qemu-driver.ts';
import { machineLimits } from './group-limits.ts';
import type { Places } from './nothing-left.ts';
import { silentLog, testTscRate, vmUsers } from './vm-fixtures.ts';

export async function openLimitedDriver(
  { stateDir, runtimeDir }: Places,
  caps?: Partial<CapSettings>,
): Promise<VmDriver> {
  return createQemuDriver({
    stateDir,
    runtimeDir,
    limits: await machineLimits(stateDir, caps),
    log: silentLog,
    tscKhz: testTscRate,
    accel: 'tcg',
    ...vmUsers(stateDir),
  });
}
