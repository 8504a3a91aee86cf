import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Logger } from 'pino';
import type { KilnEnvironment, StackPaths } from '../../config/environment.ts';
import type { SetupRecord } from '../../config/setup-record.ts';
import { defined } from '../../domain/defined.ts';
import { extraEgressPorts } from '../../domain/egress/private-names.ts';
import { KilnError } from '../../domain/failures.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import { createFakeDriver } from '../../vmm/fake/fake-driver.ts';
import { openLimits } from '../../vmm/limits/open-limits.ts';
import type { VmLimits } from '../../vmm/limits/vm-limits.ts';
import { createProjectUids, type ProjectUids, usableUidRange } from '../../vmm/project-uids.ts';
import { createQemuDriver } from '../../vmm/qemu/qemu-driver.ts';
import { createTscRate } from '../../vmm/qemu/tsc-rate.ts';

const TSC_MEASUREMENT_MS = 30_000;

/**
 * @returns what limits this host's VMs to their size
 * @throws HYPERVISOR_UNAVAILABLE where control groups are required but not available
 */
export function limitsFromEnvironment(env: KilnEnvironment, paths: StackPaths, log: Logger): Promise<VmLimits> {
  const { KILN_CGROUP_PARENT: parent, KILN_VM_IO_MIBPS: ioMib } = env;
  return openLimits({
    mode: env.KILN_CGROUPS ?? (env.KILN_DRIVER === 'fake' ? 'off' : 'required'),
    stateDir: paths.hostDir,
    log,
    ...defined({ parent }),
    ...(ioMib === undefined ? {} : { ioBytesPerSecond: ioMib * 2 ** 20 }),
  });
}

/** @returns the VM driver of this host. @throws UNSUPPORTED, HYPERVISOR_UNAVAILABLE if KVM is required but missing */
export async function driverFromEnvironment(
  env: KilnEnvironment,
  paths: StackPaths,
  setup: SetupRecord,
  log: Logger,
  limits?: VmLimits,
): Promise<VmDriver> {
  const places = {
    stateDir: paths.hostDir,
    runtimeDir: paths.runtimeDir,
    log,
    egressPorts: extraEgressPorts(env.KILN_EGRESS_PRIVATE),
    ...defined({ limits }),
  };
  if (env.KILN_DRIVER === 'fake') {
    return createFakeDriver({
      ...places,
      allowFake: env.KILN_ALLOW_FAKE_DRIVER === '1',
      agentBinary: setup.agent.path,
      asRoot: process.getuid?.() === 0,
    });
  }
  const probePath = setup.tscProbePath;
  const tscKhz = createTscRate({ ...defined({ probePath }), deadlineMs: TSC_MEASUREMENT_MS });
  // Where KVM is required, a failed trial boot must not fall back to software emulation.
  const accel = env.KILN_REQUIRE_KVM === '1' ? 'kvm' : 'auto';
  const vmUids = await vmUidsFromEnvironment(env, paths.hostDir, log);
  const driver = createQemuDriver({ ...places, tscKhz, accel, ...defined({ vmUids }) });
  const found = await driver.probe();
  log.info({ driver: driver.kind, ...found }, `guests run under ${found.accel}`);
  if (env.KILN_REQUIRE_KVM === '1' && found.accel !== 'kvm') {
    throw new KilnError('HYPERVISOR_UNAVAILABLE', `KVM is required and not usable here: ${found.reason ?? 'unknown'}`);
  }
  return driver;
}

/** @returns undefined where VMMs run as this worker: it is not root, or root of only its own id, or configured so. */
async function vmUidsFromEnvironment(
  env: KilnEnvironment,
  stateDir: string,
  log: Logger,
): Promise<ProjectUids | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  if (env.KILN_VMM_UID_BASE === 'off') {
    log.warn({}, 'VMMs run as root: KILN_VMM_UID_BASE is off');
    return undefined;
  }
  const range = usableUidRange(await readFile('/proc/self/uid_map', 'latin1'), env.KILN_VMM_UID_BASE);
  if (range === undefined) {
    log.warn({}, 'VMMs run as the user of this worker: there are no others in its user namespace');
    return undefined;
  }
  return createProjectUids(stateDir, range);
}

/** @returns a stable id for a machine without a configured one. */
export function defaultHostId(hostname: string): string {
  return `host-${createHash('sha256').update(hostname).digest('hex').slice(0, 8)}`;
}
