import type { Command } from 'commander';
import type { CliContext } from '../cli-context.ts';
import { wholeNumber } from '../option-values.ts';
import { type JsonOption, run, withJson } from '../run-command.ts';

const DRAINS = [
  ['drain', true, 'lets it take no new workloads; what runs there stays'],
  ['undrain', false, 'lets it take new workloads again'],
] as const;
const RESTART_TIMINGS = { graceMs: 15_000, deadlineMs: 30_000, pollMs: 50 };

/** Registers commands about a stack and its hosts: `kiln host …`, `kiln pool …`, `kiln archive …`, `kiln gateway …`. */
export function registerStackCommands(program: Command, context: CliContext): void {
  const host = program.command('host').description('machines that run workloads');
  withJson(host.command('list'))
    .description('hosts as they last registered')
    .action((options: JsonOption) =>
      run(context, options, async (output) => (await import('./hosts.ts')).listHosts(context, output)),
    );
  for (const [name, draining, description] of DRAINS) {
    withJson(host.command(`${name} <id>`))
      .description(description)
      .action((id: string, options: JsonOption) =>
        run(context, options, async (output) =>
          (await import('./drain-host.ts')).drainHost(context, output, id, draining),
        ),
      );
  }
  const archive = program.command('archive').description('what is kept of workloads that are over');
  withJson(archive.command('record'))
    .description('archive now what is over, instead of with the next run of the schedule; removes nothing')
    .option('--wait-ms <n>', 'how long to wait for its end, ms (at most 30000)', wholeNumber(0, 30_000))
    .action(({ waitMs, ...options }: JsonOption & { waitMs?: number }) =>
      run(context, options, async (output) =>
        (await import('./record-archive.ts')).recordArchive(context, output, waitMs),
      ),
    );
  const pool = program.command('pool').description('ready VMs that workloads are given');
  withJson(pool.command('status'))
    .description('pools of each host: how many are ready, how often one was, what was recycled and why')
    .action((options: JsonOption) =>
      run(context, options, async (output) => (await import('./pools.ts')).poolStatus(context, output)),
    );
  withJson(pool.command('inventory'))
    .description('every ready VM, and the templates they are cloned from')
    .action((options: JsonOption) =>
      run(context, options, async (output) => (await import('./pools.ts')).poolInventory(context, output)),
    );
  const gateway = program.command('gateway').description('the REST gateway');
  withJson(gateway.command('status'))
    .description('whether a workload created now would run; exit 1 where not')
    .action((options: JsonOption) =>
      run(context, options, async (output) => (await import('./gateway-status.ts')).gatewayStatus(context, output)),
    );
  withJson(gateway.command('restart'))
    .description('restart the gateway of the stack on this machine; workloads go on')
    .action((options: JsonOption) =>
      run(context, options, async (output) =>
        (await import('./gateway-restart.ts')).gatewayRestart(context, output, RESTART_TIMINGS),
      ),
    );
}
