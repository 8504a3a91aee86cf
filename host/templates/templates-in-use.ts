import type { InstanceStore } from '../../vmm/instance-record.ts';

/**
 * @returns ids of the templates that VMs of this host were cloned from. A record that cannot be read may name any: then
 * this throws, and none is removed.
 */
export async function templatesInUse(records: Pick<InstanceStore, 'list' | 'read'>): Promise<ReadonlySet<string>> {
  const all = await Promise.all((await records.list()).map((vmId) => records.read(vmId)));
  return new Set(all.flatMap((record) => record?.template?.templateId ?? []));
}
