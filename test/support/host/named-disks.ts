/** Root disks that are not files, like devices of a volume manager: each is found by the name it was created with. */
import { basename } from 'node:path';
import type { ProvisionedDisk, RootfsProvisioner } from '../../../ports/disks.ts';

const DEVICES = '/dev/mapper';

export interface NamedDisks extends RootfsProvisioner {
  /** Names of the devices that exist. */
  readonly names: ReadonlySet<string>;
}

export function createNamedDisks(): NamedDisks {
  const names = new Set<string>();
  const nameOf = (vmId: string) => `kiln-${vmId}-root`;
  return {
    kind: 'dm-thin',
    names,
    probe: async () => ({ ok: true }),
    async provision({ vmId }): Promise<ProvisionedDisk> {
      names.add(nameOf(vmId));
      return { path: `${DEVICES}/${nameOf(vmId)}`, format: 'raw' };
    },
    async release({ vmId, disks }) {
      names.delete(nameOf(vmId));
      for (const { path } of disks) names.delete(basename(path));
    },
  };
}
