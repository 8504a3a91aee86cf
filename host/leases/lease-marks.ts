/** Notes beside a VM's record that it is paused for its lease. */
import { join } from 'node:path';
import { z } from 'zod';
import { readStateFile, removeStateFile, writeStateFile } from '../../linux/state-file.ts';
import type { SessionLeasesOptions } from './session-leases.ts';

const markSchema = z.strictObject({ schemaVersion: z.literal(1) });

/** @param directoryOf folder with the record of a VM */
export function createLeaseMarks(directoryOf: (vmId: string) => string): SessionLeasesOptions['marks'] {
  const file = (vmId: string) => join(directoryOf(vmId), 'paused-for-lease.json');
  return {
    has: async (vmId) => (await readStateFile(file(vmId), markSchema)) !== undefined,
    set: (vmId) => writeStateFile(file(vmId), { schemaVersion: 1 }),
    clear: (vmId) => removeStateFile(file(vmId)),
  };
}
