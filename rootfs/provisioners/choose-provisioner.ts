import { mkdir, statfs } from 'node:fs/promises';
import { KilnError } from '../../domain/failures.ts';
import type { DiskFormat } from '../../domain/vm.ts';
import type { RootfsProvisioner } from '../../ports/disks.ts';
import type { EmptyDisks } from './empty-disks.ts';
import { createQcow2OverlayProvisioner } from './qcow2-overlay.ts';
import { createReflinkProvisioner } from './reflink.ts';
import { createRoBaseScratchProvisioner } from './ro-base-scratch.ts';
import { createSparseCopyProvisioner } from './sparse-copy.ts';

export const PROVISIONER_KINDS = ['qcow2-overlay', 'reflink', 'ro-base+scratch', 'sparse-copy'] as const;
export type ProvisionerKind = (typeof PROVISIONER_KINDS)[number];

interface Candidate {
  readonly kind: ProvisionerKind;
  /** What its disks are; the VM driver must be able to open them. */
  readonly format: DiskFormat;
  readonly create: (emptyDisks: EmptyDisks) => RootfsProvisioner;
}

/**
 * Best first; the last one works everywhere. With an overlay all VMs share the base's pages in the host's cache; with a
 * reflink they do not. With a reflink the guest sees one plain file system; with a scratch disk it does not.
 */
const CANDIDATES: readonly Candidate[] = [
  { kind: 'qcow2-overlay', format: 'qcow2', create: createQcow2OverlayProvisioner },
  { kind: 'reflink', format: 'raw', create: createReflinkProvisioner },
  { kind: 'ro-base+scratch', format: 'raw', create: createRoBaseScratchProvisioner },
  { kind: 'sparse-copy', format: 'raw', create: createSparseCopyProvisioner },
];

/** Bytes of free space below which no provisioner can be tested. */
const ROOM_TO_PROBE = 1 << 20;

/**
 * Picks how disks are made in a folder: the first way that the VM driver can open and that has just worked there. On
 * a full disk, the first that it can open: existing VMs still need a provisioner, and a new disk fails with DISK_FULL.
 * @param diskFormats what the VM driver opens
 * @param options `emptyDisks` makes scratch disks; `only`: take this one or none
 * @throws UNSUPPORTED naming why each one was refused
 */
export async function chooseProvisioner(
  directory: string,
  diskFormats: readonly DiskFormat[],
  options: { emptyDisks: EmptyDisks; only?: ProvisionerKind | undefined },
): Promise<RootfsProvisioner> {
  const refused: string[] = [];
  const hasRoom = await hasRoomToProbe(directory);
  for (const { kind, format, create } of CANDIDATES) {
    if (options.only !== undefined && kind !== options.only) continue;
    if (!diskFormats.includes(format)) {
      refused.push(`${kind}: the VM driver cannot open ${format} disks`);
      continue;
    }
    const provisioner = create(options.emptyDisks);
    if (!hasRoom) return provisioner;
    const probe = await provisioner.probe(directory);
    if (probe.ok) return provisioner;
    refused.push(`${kind}: ${probe.reason}`);
  }
  throw new KilnError('UNSUPPORTED', `no way to make disks in ${directory}: ${refused.join('; ')}`, {
    directory,
    refused,
  });
}

async function hasRoomToProbe(directory: string): Promise<boolean> {
  try {
    await mkdir(directory, { recursive: true });
    const { bavail, bsize } = await statfs(directory);
    return bavail * bsize >= ROOM_TO_PROBE;
  } catch {
    // The probe reports what is wrong with the folder.
    return true;
  }
}
