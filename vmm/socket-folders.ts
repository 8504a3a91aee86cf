import { basename, dirname } from 'node:path';
import type { InstanceStore } from './instance-record.ts';

/**
 * Folders of sockets that belong to a record of another name: a VM that was given a new name keeps its sockets where
 * they were. A record that cannot be read names none.
 * @returns their names
 */
export async function keptSocketFolders(records: Pick<InstanceStore, 'list' | 'read'>): Promise<Set<string>> {
  const kept = new Set<string>();
  for (const vmId of await records.list()) {
    const record = await records.read(vmId).catch(() => undefined);
    if (record !== undefined) kept.add(basename(dirname(record.sockets.agent)));
  }
  return kept;
}
