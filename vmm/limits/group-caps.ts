import { defined } from '../../domain/defined.ts';

/** How much of its machine a VM may use, as set on its control group. */
export interface GroupCaps {
  /** CPU time per second of all its threads together, in cores. */
  readonly cores: number;
  /** Share of the cores when they are scarce, in vCPUs: a VM of two gets twice what a VM of one gets. */
  readonly claim: number;
  readonly memoryBytes: number;
  readonly pids: number;
  readonly io?: IoCap;
}

/** Reads and writes, each, of the disk that holds the VMs. */
export interface IoCap {
  /** `major:minor` of the whole disk. */
  readonly device: string;
  readonly bytesPerSecond: number;
}

export interface CapSettings {
  /** Memory of the VMM beside its guest's: translation buffer, device models, MiB. As the capacity ledger counts it. */
  readonly vmOverheadMib: number;
  /** Cores for the VMM's own threads: disks, channel. */
  readonly vmmCores: number;
  /** Threads of the VMM beside one per vCPU. */
  readonly vmmThreads: number;
}

/** QEMU keeps a pool of up to 64 threads for disk requests, and a handful of its own. */
export const DEFAULT_CAP_SETTINGS: CapSettings = { vmOverheadMib: 316, vmmCores: 0.25, vmmThreads: 128 };

const MIB = 1024 * 1024;

/** @returns the caps of a VM of this size. Pure. */
export function groupCaps(
  size: { readonly vcpus: number; readonly memMib: number },
  settings: CapSettings,
  io?: IoCap,
): GroupCaps {
  return {
    cores: size.vcpus + settings.vmmCores,
    claim: size.vcpus,
    memoryBytes: (size.memMib + settings.vmOverheadMib) * MIB,
    pids: size.vcpus + settings.vmmThreads,
    ...defined({ io }),
  };
}
