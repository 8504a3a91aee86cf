/** Templates of a host, as its pool asks for them. */
import type { Templates } from '../templates/template-store.ts';
import type { PoolMeans, PoolTemplates } from './pool-ports.ts';

/** @param templates absent where the driver starts every guest cold @returns what a pool can do with them */
export function poolMeansOf(
  templates: Templates | undefined,
): Pick<PoolMeans, 'templates' | 'templateOf' | 'blameTemplate'> {
  if (templates === undefined) return {};
  return {
    templates: poolTemplatesOf(templates),
    blameTemplate: (templateId, failure) => templates.reportFailure(templateId, failure),
    templateOf: async (templateId) => {
      const found = templates.list().find((template) => template.templateId === templateId);
      return found && { templateId, createdAtMs: Date.parse(found.createdAt) };
    },
  };
}

function poolTemplatesOf(templates: Templates): PoolTemplates {
  let looked: Promise<void> | undefined;
  return {
    ready() {
      looked ??= templates.settled();
      return looked;
    },
    async newest(kind) {
      const found = templates.newestOf(kind);
      return found && { templateId: found.templateId, createdAtMs: Date.parse(found.createdAt) };
    },
    async refresh(kind) {
      // Boots a guest for it and touches no VM of the pool: the memory of a running one is not a file.
      const { templateId, createdAt } = await templates.refresh(kind);
      return { templateId, createdAtMs: Date.parse(createdAt) };
    },
  };
}
