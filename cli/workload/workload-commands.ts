import type { Command } from 'commander';
import { defined } from '../../domain/defined.ts';
import { LOG_LEVELS } from '../../domain/logs/log-entry.ts';
import { STAGES, type Stage } from '../../domain/workload/stages.ts';
import type { CliContext } from '../cli-context.ts';
import { oneOf, wholeNumber } from '../option-values.ts';
import { type JsonOption, run, withJson } from '../run-command.ts';
import { withRunOptions } from '../run-options.ts';
import type { CreateOptions } from './create.ts';
import type { LogOptions } from './logs.ts';

/** Registers `kiln workload …`. What a command does is loaded when it is used. */
export function registerWorkloadCommands(program: Command, context: CliContext): void {
  const workload = program.command('workload').description('services, each in a microVM of its own');
  registerCreate(workload, context);
  registerReaders(workload, context);
  registerStop(workload, context);
  registerLogs(workload, context);
}

function registerCreate(workload: Command, context: CliContext): void {
  withRunOptions(withJson(workload.command('create')))
    .description('run a service')
    .requiredOption('--service <path>', 'folder of the service, relative to the project root')
    .option('--wait', 'show its stages until it runs; exit 1 where it does not come to run')
    .action((options: CreateOptions & JsonOption) =>
      run(context, options, async (output) => {
        const { createWorkload } = await import('./create.ts');
        return await createWorkload(context, output, options);
      }),
    );
}

function registerReaders(workload: Command, context: CliContext): void {
  withJson(workload.command('get <id>'))
    .description('its stages, how long each took, and why it waits or has failed')
    .action((id: string, options: JsonOption) =>
      run(context, options, async (output) => (await import('./show.ts')).getWorkload(context, output, id)),
    );
  withJson(workload.command('inspect <id>'))
    .description('everything known of it: stages, VM, exit, stack, links, last log lines')
    .action((id: string, options: JsonOption) =>
      run(context, options, async (output) => (await import('./show.ts')).inspectWorkload(context, output, id)),
    );
  withJson(workload.command('history <id>'))
    .description('its moves between stages, as its recorded events prove them')
    .action((id: string, options: JsonOption) =>
      run(context, options, async (output) => (await import('./show.ts')).showHistory(context, output, id)),
    );
  withJson(workload.command('list'))
    .description('workloads, newest first')
    .option('--stage <stage>', `only those in a stage: ${STAGES.join(', ')}`, oneOf(STAGES))
    .option('--deployment <id>', 'only those of a deployment')
    .option('--project <id>', 'only those of a project')
    .option('--limit <n>', 'at most so many', wholeNumber(1, 10_000), 50)
    .action((options: JsonOption & { stage?: Stage; deployment?: string; project?: string; limit: number }) =>
      run(context, options, async (output) => (await import('./list.ts')).listWorkloads(context, output, options)),
    );
}

function registerStop(workload: Command, context: CliContext): void {
  withJson(workload.command('stop <id>'))
    .description('stop it and wait until everything is released; may be repeated')
    .option('--wait-ms <n>', 'how long to wait for its end, ms (at most 30000)', wholeNumber(0, 30_000))
    .option('--reason <text>', 'kept with the workload')
    .action((id: string, options: JsonOption & { waitMs?: number; reason?: string }) =>
      run(context, options, async (output) => (await import('./stop.ts')).stopWorkload(context, output, id, options)),
    );
}

function registerLogs(workload: Command, context: CliContext): void {
  withJson(workload.command('logs <id>'))
    .description('its log, oldest line first')
    .option('-f, --follow', 'go on as lines are written, until it is over')
    .option('--level <level>', `lines of this level or graver: ${LOG_LEVELS.join(', ')}`, oneOf(LOG_LEVELS))
    .option('--stage <stage>', `lines of one stage: ${STAGES.join(', ')}`, oneOf(STAGES))
    .option('--tail <n>', 'of the lines that are there already only the last n', wholeNumber(0, 1_000_000))
    .action((id: string, { json, ...options }: JsonOption & LogOptions) =>
      run(context, defined({ json }), async (output) =>
        (await import('./logs.ts')).showLogs(context, output, id, options),
      ),
    );
}
