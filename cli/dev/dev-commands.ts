import { resolve } from 'node:path';
import type { Command } from 'commander';
import { wholeNumber } from '../option-values.ts';

/** Registers the commands that run a part of Kiln here: `dev`, `start`, `worker`, `gateway run`. Loaded when used. */
export function registerDevCommands(program: Command): void {
  program
    .command('dev')
    .description('run the whole stack on this machine until Ctrl-C')
    .option('--keep-vms', 'leave running workloads and their VMs alone when the stack stops')
    .option('--pool-size <n>', 'ready VMs of each pool (default: none; KILN_POOL_SIZE)', wholeNumber(0, 1000))
    .option('--pool-file <file>', 'settings of the pools (KILN_POOL_FILE)')
    .option('--json', 'print dev.json on one line once everything answers')
    .action(async (options: { keepVms?: boolean; json?: boolean; poolSize?: number; poolFile?: string }) => {
      const { runDev } = await import('./run-dev.ts');
      const { poolSize, poolFile } = options;
      const env = {
        ...(poolSize === undefined ? {} : { KILN_POOL_SIZE: String(poolSize) }),
        ...(poolFile === undefined ? {} : { KILN_POOL_FILE: resolve(poolFile) }),
      };
      process.exitCode = await runDev({ keepVms: options.keepVms === true, json: options.json === true, env });
    });
  program
    .command('start')
    .description('run the stack, deploy the example service into a microVM and show it answering')
    .option('--once', 'stop the workload and the stack again; exit 0 only if every step held')
    .option('--json', 'print the result as one line of JSON at the end')
    .action(async (options: { once?: boolean; json?: boolean }) => {
      const { runStart } = await import('./run-start.ts');
      process.exitCode = await runStart({ once: options.once === true, json: options.json === true });
    });
  const worker = program.command('worker').description('run one worker process');
  worker
    .command('control')
    .description('workflows and host-free activities')
    .action(async () => {
      const { runControlProcess } = await import('../../workers/control/control-process.ts');
      await runControlProcess();
    });
  worker
    .command('host')
    .description('the activities, VMs, disks and ports of this machine')
    .action(async () => {
      const { runHostProcess } = await import('../../workers/host/host-process.ts');
      await runHostProcess();
    });
  group(program, 'gateway', 'the REST gateway')
    .command('run')
    .description('run the gateway in the foreground')
    .action(async () => {
      const { runGatewayProcess } = await import('../../workers/gateway/gateway-process.ts');
      await runGatewayProcess();
    });
}

/** Finds a command group that another file may have made already. */
function group(program: Command, name: string, description: string): Command {
  return program.commands.find((command) => command.name() === name) ?? program.command(name).description(description);
}
