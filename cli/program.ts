import { Command } from 'commander';
import { packageVersion } from '../config/checkout.ts';
import type { CliContext } from './cli-context.ts';
import { registerCompletionCommands } from './completion/completion-commands.ts';
import { registerDeployCommand } from './deploy/deploy-command.ts';
import { registerDeploymentCommands } from './deployment/deployment-commands.ts';
import { registerDevCommands } from './dev/dev-commands.ts';
import { registerImageCommands } from './image/image-commands.ts';
import { registerSessionCommands } from './session/session-commands.ts';
import { registerStackCommands } from './stack/stack-commands.ts';
import { registerWorkloadCommands } from './workload/workload-commands.ts';

/** @returns the whole command line. Only names and options are loaded; each command loads what it does. */
export function kilnProgram(context: CliContext): Command {
  const program = new Command('kiln')
    .description('durable microVM workloads')
    .version(packageVersion(), '-V, --version', 'print the version')
    .showHelpAfterError('(see --help)')
    .configureOutput({
      writeOut: (text) => void context.stdout.write(text),
      writeErr: (text) => void context.stderr.write(text),
    })
    .exitOverride()
    .addHelpText(
      'after',
      '\nA command finds its stack by KILN_API_URL and KILN_TOKEN, else by dev.json in KILN_HOME,\n' +
        'else by .kiln/dev.json in this folder or the nearest one above.\n' +
        'Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted; `session run`: that of its command.',
    );
  registerDeployCommand(program, context);
  registerWorkloadCommands(program, context);
  registerSessionCommands(program, context);
  registerDeploymentCommands(program, context);
  registerImageCommands(program, context);
  registerStackCommands(program, context);
  registerDevCommands(program);
  registerCompletionCommands(program, context);
  return program;
}
