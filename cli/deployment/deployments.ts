import { createDeploymentBodySchema, type Deployment } from '../../contracts/api/deployment.ts';
import { defined } from '../../domain/defined.ts';
import { type CliContext, EXIT } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { pagedItems } from '../paged-items.ts';
import { checkedBody } from '../request-body.ts';
import { servicePath } from '../service-path.ts';
import { fieldLines, textColumns } from '../terminal/text-columns.ts';

export interface CreateDeploymentOptions {
  readonly project: string;
  readonly name: string;
  readonly service: string;
  readonly id?: string;
}

/** `kiln deployment create`. @returns exit code */
export async function createDeployment(
  context: CliContext,
  output: CommandOutput,
  { id, project, name, service }: CreateDeploymentOptions,
): Promise<number> {
  const body = checkedBody(
    createDeploymentBodySchema,
    {
      ...defined({ id }),
      projectId: project,
      serviceName: name,
      servicePath: servicePath(service),
    },
    { id: '--id', projectId: '--project', serviceName: '--name', servicePath: '--service' },
  );
  const created = await (await context.connect()).createDeployment({ body });
  output.answer(created, () => fieldLines({ ...created }));
  return EXIT.ok;
}

/** `kiln deployment list`: with --json one document a deployment. @returns exit code */
export async function listDeployments(context: CliContext, output: CommandOutput, limit: number): Promise<number> {
  const api = await context.connect();
  const { items, more } = await pagedItems((page) => api.listDeployments({ query: page }), limit);
  if (output.json) for (const item of items) output.answer(item, () => []);
  else output.answer(items, () => table(items));
  if (more) output.note(`There are more: give a --limit above ${limit}.`);
  return EXIT.ok;
}

/** `kiln deployment get`. @returns exit code */
export async function getDeployment(context: CliContext, output: CommandOutput, id: string): Promise<number> {
  const deployment = await (await context.connect()).getDeployment({ params: { id } });
  output.answer(deployment, () => fieldLines({ ...deployment }));
  return EXIT.ok;
}

function table(items: readonly Deployment[]): string[] {
  return textColumns(
    ['ID', 'PROJECT', 'NAME', 'SERVICE', 'STATUS', 'CREATED'],
    items.map((item) => [item.id, item.projectId, item.serviceName, item.servicePath, item.status, item.createdAt]),
  );
}
