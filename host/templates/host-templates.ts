/** The templates of a host, over its driver and beside the records of its VMs. */
import type { VmDriver } from '../../ports/vm-driver.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import { createTemplates, type TemplateStoreOptions, type Templates } from './template-store.ts';

export interface HostTemplateOptions extends Omit<TemplateStoreOptions, 'maker' | 'inUse'> {
  readonly driver: Pick<VmDriver, 'templates'>;
  readonly records: Pick<InstanceStore, 'list' | 'read'>;
}

/** @returns undefined where the driver starts every guest cold */
export function createHostTemplates({ driver, records, ...options }: HostTemplateOptions): Templates | undefined {
  if (driver.templates === undefined) return undefined;
  return createTemplates({ ...options, maker: driver.templates, inUse: () => templatesInUse(records) });
}

/** A record that cannot be read may name any template: then this throws, and none is removed. */
async function templatesInUse(records: HostTemplateOptions['records']): Promise<ReadonlySet<string>> {
  const all = await Promise.all((await records.list()).map((vmId) => records.read(vmId)));
  return new Set(all.flatMap((record) => record?.template?.templateId ?? []));
}
