import type { InstanceRecord, VmProcess } from '../../contracts/host/instance-record.ts';
import type { VmExit } from '../../domain/vm.ts';
import type { VmUsage } from '../../ports/vm-driver.ts';
import type { VmLaunch } from '../vm-user.ts';

/** Whether VMs must have a control group: `required` refuses to start without, `auto` warns once, `off` makes none. */
export type LimitsMode = 'required' | 'auto' | 'off';

/** Limits VMs to their size. Every method may be repeated after a crash at any point. */
export interface VmLimits {
  /** `none`: no control groups; a VM is then bound by its guest's memory and vCPUs alone. */
  readonly kind: 'cgroup2' | 'cgroup1' | 'none';
  /**
   * Makes the VM's control group.
   * @param record names the group and says how large it is
   * @param directory where the VM's record lies
   * @returns `cgroup.procs` of each part of it, to which a process writes its pid to join
   * @throws HYPERVISOR_UNAVAILABLE where the group cannot be made or set
   */
  make(record: Pick<InstanceRecord, 'vmId' | 'vcpus' | 'memMib'>, directory: string): Promise<readonly string[]>;
  /**
   * Makes the VM's control group and returns how its process is started in it: it joins before any code of the VMM.
   * @throws as `make` does
   */
  launch(
    record: Pick<InstanceRecord, 'vmId' | 'vcpus' | 'memMib'>,
    command: VmLaunch,
    directory: string,
  ): Promise<VmLaunch>;
  /** @returns the end of a VM as known so far, corrected where the kernel killed it for its memory */
  explain(vmId: string, directory: string, exit: VmExit): Promise<VmExit>;
  /** @returns what the process of a VM uses; undefined where it is gone */
  usage(vmId: string, directory: string, process: VmProcess): Promise<VmUsage | undefined>;
  /**
   * Kills what is left in the VM's group and removes it. No group: nothing to do.
   * @throws INTERNAL where the group is not empty after `timeoutMs`
   */
  release(vmId: string, directory: string, options: { pollMs: number; timeoutMs: number }): Promise<void>;
  /** @returns the ids of all VMs with a control group of this host, with or without a record */
  list(): Promise<string[]>;
}
