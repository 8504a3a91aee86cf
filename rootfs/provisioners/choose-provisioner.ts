import { mkdir, statfs } from 'node:fs/promises';
import type { RootfsProvisioner } from '../../activities/ports.ts';
import { KilnError } from '../../domain/failures.ts';
import type { DiskFormat } from '../../domain/vm.ts';
import { createQcow2OverlayProvisioner } from './qcow2-overlay.ts';
import { createSparseCopyProvisioner } from './sparse-copy.ts';

export type ProvisionerKind = 'qcow2-overlay' | 'sparse-copy';

interface Candidate {
  readonly kind: ProvisionerKind;
  /** What its disks are; the VM driver must be able to open them. */
  readonly format: DiskFormat;
  readonly create: () => RootfsProvisioner;
}

/** Best first; the last one works everywhere. */
const CANDIDATES: readonly Candidate[] = [
  { kind: 'qcow2-overlay', format: 'qcow2', create: createQcow2OverlayProvisioner },
  { kind: 'sparse-copy', format: 'raw', create: createSparseCopyProvisioner },
];

/** Free space below which nothing can prove itself, bytes. */
const ROOM_TO_PROBE = 1 << 20;

/**
 * Picks how disks are made in a folder: the first that the VM driver can open and that has just proved itself there. On
 * a full disk the first that it can open: the VMs that are there must be looked after, and a new disk is DISK_FULL.
 * @param diskFormats what the VM driver opens
 * @param override take this one or none
 * @throws UNSUPPORTED naming why each one was refused
 */
export async function chooseProvisioner(
  directory: string,
  diskFormats: readonly DiskFormat[],
  override?: ProvisionerKind,
): Promise<RootfsProvisioner> {
  const refused: string[] = [];
  const hasRoom = await hasRoomToProbe(directory);
  for (const { kind, format, create } of CANDIDATES) {
    if (override !== undefined && kind !== override) continue;
    if (!diskFormats.includes(format)) {
      refused.push(`${kind}: the VM driver cannot open ${format} disks`);
      continue;
    }
    const provisioner = create();
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
    // What is wrong with the folder is the probe's to tell.
    return true;
  }
}
