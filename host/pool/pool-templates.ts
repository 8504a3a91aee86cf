/** Templates of a host, as its pool asks for them. */
import type { TemplateKey } from '../../contracts/host/template-manifest.ts';
import type { PoolKey } from '../../domain/pool/pool-policy.ts';
import type { Templates } from '../templates/template-store.ts';
import type { PoolMeans } from './host-pool.ts';
import type { PoolTemplates } from './pool-ports.ts';

/**
 * @param templates absent where the driver starts every guest cold @param provisioner how this host makes root disks
 * @returns what a pool can do with them
 */
export function poolMeansOf(
  templates: Templates | undefined,
  provisioner: string,
): Pick<PoolMeans, 'templates' | 'templateOf' | 'blameTemplate'> {
  if (templates === undefined) return {};
  return {
    templates: poolTemplatesOf(templates, provisioner),
    blameTemplate: (templateId, failure) => templates.blame(templateId, failure),
    templateOf: async (templateId) => {
      const found = templates.list().find((template) => template.templateId === templateId);
      return found && { templateId, createdAtMs: Date.parse(found.createdAt) };
    },
  };
}

function poolTemplatesOf(templates: Templates, provisioner: string): PoolTemplates {
  const keyOf = ({ imageDigest, vcpus, memMib, diskMib, projectId }: PoolKey): TemplateKey => ({
    imageDigest,
    resources: { vcpus, memMib, ...(diskMib === undefined ? {} : { diskMib }) },
    ...(projectId === undefined ? {} : { projectId }),
    provisioner,
  });
  let looked: Promise<void> | undefined;
  return {
    ready() {
      looked ??= templates.settled();
      return looked;
    },
    async newest(key) {
      const found = templates.newestOf(keyOf(key));
      return found && { templateId: found.templateId, createdAtMs: Date.parse(found.createdAt) };
    },
    async refresh(key) {
      // A guest of its own is booted for it, and no VM of the pool is touched: the memory of one that runs is no file.
      const { templateId, createdAt } = await templates.refresh(keyOf(key));
      return { templateId, createdAtMs: Date.parse(createdAt) };
    },
  };
}
