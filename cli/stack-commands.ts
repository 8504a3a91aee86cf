import type { Command } from 'commander';
import type { CliContext } from './cli-context.ts';
import { type JsonOption, run, withJson } from './run-command.ts';

/** Registers what looks at a stack: `kiln host list`, `kiln gateway status`. */
export function registerStackCommands(program: Command, context: CliContext): void {
  withJson(program.command('host').description('machines that run workloads').command('list'))
    .description('hosts as they last registered')
    .action((options: JsonOption) =>
      run(context, options, async (output) => (await import('./stack/hosts.ts')).listHosts(context, output)),
    );
  withJson(program.command('gateway').description('the REST gateway').command('status'))
    .description('whether a workload created now would run; exit 1 where not')
    .action((options: JsonOption) =>
      run(context, options, async (output) =>
        (await import('./stack/gateway-status.ts')).gatewayStatus(context, output),
      ),
    );
}
