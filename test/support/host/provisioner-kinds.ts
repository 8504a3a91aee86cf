/** Makes a provisioner of each kind, for the conformance suite and its child processes. */
import { join } from 'node:path';
import type { DiskRef } from '../../../domain/vm.ts';
import type { ProvisionedDisk, RootfsProvisioner } from '../../../ports/disks.ts';
import type { ProvisionerKind } from '../../../rootfs/provisioners/choose-provisioner.ts';
import { createEmptyDisks } from '../../../rootfs/provisioners/empty-disks.ts';
import { createQcow2OverlayProvisioner } from '../../../rootfs/provisioners/qcow2-overlay.ts';
import { createReflinkProvisioner } from '../../../rootfs/provisioners/reflink.ts';
import { createRoBaseScratchProvisioner } from '../../../rootfs/provisioners/ro-base-scratch.ts';
import { createSparseCopyProvisioner } from '../../../rootfs/provisioners/sparse-copy.ts';

/** @returns a new provisioner; empty disks are stored below `stateDir`. */
export function createProvisioner(kind: ProvisionerKind, stateDir: string): RootfsProvisioner {
  switch (kind) {
    case 'qcow2-overlay':
      return createQcow2OverlayProvisioner();
    case 'reflink':
      return createReflinkProvisioner();
    case 'ro-base+scratch':
      return createRoBaseScratchProvisioner(createEmptyDisks(stateDir));
    case 'sparse-copy':
      return createSparseCopyProvisioner();
  }
}

/** The disk that the guest of the VM writes to. */
export function writtenDisk(disk: ProvisionedDisk): DiskRef {
  return disk.scratch ?? disk;
}

/** Path of a suite's base disk below its folder. */
export function baseIn(root: string): string {
  return join(root, 'rootfs.ext4');
}
