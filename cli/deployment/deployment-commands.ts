import type { Command } from 'commander';
import type { CliContext } from '../cli-context.ts';
import { wholeNumber } from '../option-values.ts';
import { type JsonOption, run, withJson } from '../run-command.ts';
import type { CreateDeploymentOptions } from './deployments.ts';

/** Registers `kiln deployment …`. */
export function registerDeploymentCommands(program: Command, context: CliContext): void {
  const deployment = program.command('deployment').description('records that workloads may name');
  withJson(deployment.command('create'))
    .description('record a deployment')
    .requiredOption('--project <id>', 'project that it belongs to')
    .requiredOption('--name <text>', 'name of the service')
    .requiredOption('--service <path>', 'folder of the service, relative to the project root')
    .option('--id <id>', 'key of the deployment: the same id with the same options is the same record')
    .action((options: CreateDeploymentOptions & JsonOption) =>
      run(context, options, async (output) => {
        const { createDeployment } = await import('./deployments.ts');
        return await createDeployment(context, output, options);
      }),
    );
  withJson(deployment.command('list'))
    .description('deployments by id')
    .option('--limit <n>', 'at most so many', wholeNumber(1, 10_000), 50)
    .action((options: JsonOption & { limit: number }) =>
      run(context, options, async (output) => {
        const { listDeployments } = await import('./deployments.ts');
        return await listDeployments(context, output, options.limit);
      }),
    );
  withJson(deployment.command('get <id>'))
    .description('one deployment')
    .action((id: string, options: JsonOption) =>
      run(context, options, async (output) => {
        const { getDeployment } = await import('./deployments.ts');
        return await getDeployment(context, output, id);
      }),
    );
}
