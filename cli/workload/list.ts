import type { KilnClient } from '../../client/http/kiln-client.ts';
import type { WorkloadSummary } from '../../contracts/api/workload-view.ts';
import { defined } from '../../domain/defined.ts';
import type { Stage } from '../../domain/workload/stages.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { pagedItems } from '../paged-items.ts';
import { durationText } from '../terminal/terminal-text.ts';
import { textColumns } from '../terminal/text-columns.ts';

export interface ListOptions {
  readonly stage?: Stage;
  readonly deployment?: string;
  readonly project?: string;
  readonly limit: number;
}

/** `kiln workload list`: with --json one document a workload. @returns exit code */
export async function listWorkloads(context: CliContext, output: CommandOutput, options: ListOptions): Promise<number> {
  const { stage, deployment, project } = options;
  const api = await context.connect();
  const filter = {
    ...defined({ stage, deploymentId: deployment, projectId: project }),
  };
  const { items, more } = await pagedItems(
    (page) => api.listWorkloads({ query: { ...filter, ...page } }),
    options.limit,
  );
  if (output.json) for (const item of items) output.answer(item, () => []);
  else {
    output.answer(items, () => table(items, context.now()));
    await tellWhyPending(api, output, items);
  }
  if (more) output.note(`There are more: give a --limit above ${options.limit}.`);
  return EXIT.ok;
}

/** A list holds only stages; the reason for waiting comes from the workflow, one query each. */
async function tellWhyPending(
  api: KilnClient,
  output: CommandOutput,
  items: readonly WorkloadSummary[],
): Promise<void> {
  for (const { id } of items.filter(({ stage }) => stage === 'pending').slice(0, EXPLAINED)) {
    const view = await api.getWorkload({ params: { id } }).catch(() => undefined);
    if (view?.waiting !== undefined) output.note(`${id} waits: ${view.waiting.reason}`);
  }
}

/** Pending workloads that a list explains. */
const EXPLAINED = 5;

function table(items: readonly WorkloadSummary[], now: number): string[] {
  const age = (at: string): string => durationText(now - Date.parse(at));
  return textColumns(
    ['ID', 'STAGE', 'AGE', 'HOST', 'DEPLOYMENT', 'SERVICE', 'ATTENTION'],
    items.map((item) => [
      item.id,
      item.stage,
      age(item.createdAt),
      item.hostId ?? '-',
      item.deploymentId ?? '-',
      item.servicePath ?? '-',
      item.attention ?? '',
    ]),
  );
}
