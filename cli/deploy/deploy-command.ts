import type { Command } from 'commander';
import type { CliContext } from '../cli-context.ts';
import { type JsonOption, run, withJson } from '../run-command.ts';
import { withRunOptions } from '../run-options.ts';
import type { DeployOptions } from './deploy-folder.ts';

/** Registers `kiln deploy`. */
export function registerDeployCommand(program: Command, context: CliContext): void {
  withRunOptions(withJson(program.command('deploy <dir>')))
    .description('upload the folder of a service and run it, from any machine')
    .option('--allow-secret <path>', 'send a file that looks like a secret; may be given many times', gathered)
    .option('--dry-run', 'show what would go up, and send nothing')
    .option('--no-wait', 'do not show its stages until it runs')
    .action((dir: string, options: DeployOptions & JsonOption) =>
      run(context, options, async (output) => {
        const { deployFolder } = await import('./deploy-folder.ts');
        return await deployFolder(context, output, dir, options);
      }),
    );
}

function gathered(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}
