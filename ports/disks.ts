/** Disks of VMs and how they are made. Types only; the rules of `ports/README.md` hold. */
import type { BaseDisk, DiskRef } from '../domain/vm.ts';

/** A disk that a provisioner has made for one VM. */
export interface ProvisionedDisk extends DiskRef {
  /** Where it only holds differences: to what, nearest first. */
  readonly backing?: readonly DiskRef[];
  /** The base itself, which other VMs have open too: the guest must write elsewhere. */
  readonly readOnly?: true;
  /** Where the guest of a read-only disk writes. */
  readonly scratch?: DiskRef;
}

export interface RootfsProvisioner {
  readonly kind: 'qcow2-overlay' | 'sparse-copy' | 'reflink' | 'dm-thin' | 'ro-base+scratch';
  /** Proves itself by doing it once in `directory`. */
  probe(directory: string): Promise<{ ok: boolean; reason?: string }>;
  /**
   * A fresh copy-on-write disk named by VM and base, over a base that nobody writes. Found again on a retry.
   * @param request `scratchMib`: size of the scratch disk, where there is one; other disks are as large as their base
   * @throws DISK_FULL, IMAGE_MISSING where the base is gone
   */
  provision(request: {
    base: BaseDisk;
    directory: string;
    vmId: string;
    scratchMib?: number;
  }): Promise<ProvisionedDisk>;
  /**
   * Removes the disks that bear the VM's name, and those of `disks` that are its own: a VM that was given another name has
   * disks named by its first one. What they lie over stays. Unknown id: nothing to do.
   * @param request `disks`: those that the VM's record names; none where there is no record
   */
  release(request: { directory: string; vmId: string; disks: readonly DiskRef[] }): Promise<void>;
}
