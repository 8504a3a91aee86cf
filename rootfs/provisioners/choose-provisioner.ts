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

/**
 * Picks how disks are made in a folder: the first that the VM driver can open and that has just proved itself there.
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
  for (const { kind, format, create } of CANDIDATES) {
    if (override !== undefined && kind !== override) continue;
    if (!diskFormats.includes(format)) {
      refused.push(`${kind}: the VM driver cannot open ${format} disks`);
      continue;
    }
    const provisioner = create();
    const probe = await provisioner.probe(directory);
    if (probe.ok) return provisioner;
    refused.push(`${kind}: ${probe.reason}`);
  }
  throw new KilnError('UNSUPPORTED', `no way to make disks in ${directory}: ${refused.join('; ')}`, {
    directory,
    refused,
  });
}
