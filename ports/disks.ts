/** Disks of VMs and how they are made. Types only; see the rules in `ports/README.md`. */
import type { BaseDisk, DiskRef } from '../domain/vm.ts';

/** A disk that a provisioner has made for one VM. */
export interface ProvisionedDisk extends DiskRef {
  /** For a disk that only holds differences: its base disks, nearest first. */
  readonly backing?: readonly DiskRef[];
  /** The base itself, which other VMs also use: the guest must write elsewhere. */
  readonly readOnly?: true;
  /** Where the guest of a read-only disk writes. */
  readonly scratch?: DiskRef;
}

export interface RootfsProvisioner {
  readonly kind: 'qcow2-overlay' | 'sparse-copy' | 'reflink' | 'dm-thin' | 'ro-base+scratch';
  /** Checks that it works, by one try in `directory`. */
  probe(directory: string): Promise<{ ok: boolean; reason?: string }>;
  /**
   * A fresh copy-on-write disk, named by VM and base, over a base that is never written. A retry finds it again.
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
   * Removes the disks that have the VM's name, and those of `disks` that are its own: a renamed VM has disks with its
   * first name. Their base disks stay. Unknown id: does nothing.
   * @param request `disks`: those in the VM's instance record; none where there is no record
   */
  release(request: { directory: string; vmId: string; disks: readonly DiskRef[] }): Promise<void>;
}
