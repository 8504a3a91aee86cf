import { type Command, Option } from 'commander';
import { MAX_RUN_MS, MAX_TTL_MS } from '../../contracts/api/session-request.ts';
import { TIERS } from '../../domain/session/tiers.ts';
import type { CliContext } from '../cli-context.ts';
import { assignment, collected, duration, wholeNumber } from '../option-values.ts';
import { type JsonOption, run, withJson } from '../run-command.ts';
import { withResources } from '../run-options.ts';
import type { CreateOptions } from './create.ts';
import { registerFileCommands, registerTurnCommands } from './file-commands.ts';
import type { ListOptions } from './list.ts';
import type { OutputOptions } from './output.ts';
import type { RunOptions } from './run.ts';
import type { ForkOptions } from './sleep-and-fork.ts';

/** Registers `kiln session …`. What a command does is loaded when it is used. */
export function registerSessionCommands(program: Command, context: CliContext): void {
  const session = program.command('session').description('threads of runs, each in a microVM that keeps its workspace');
  registerCreate(session, context);
  registerRun(session, context);
  registerReaders(session, context);
  registerFileCommands(session, context, inProject);
  registerTurnCommands(session, context, inProject);
  registerEnds(session, context);
  registerNotThereYet(session, context);
}

const inProject = (command: Command): Command =>
  withJson(command).option('--project <id>', 'project that it belongs to (default: default)');

const ifEnded = () =>
  new Option('--if-ended <what>', 'what becomes of a thread whose session has ended: a new session').choices([
    'restart',
  ]);

function registerCreate(session: Command, context: CliContext): void {
  withResources(inProject(session.command('create <thread>')))
    .description('begin a session with settings of its own; a first run begins one with the defaults')
    .option('--image <ref>', 'name, name:tag or name@sha256:… (default node)')
    .option('--egress <name>', 'name that its runs may reach; may be given many times', collected)
    .option('--idle <time>', 'without activity for so long, its VM may go (default 15m)', duration(1000, MAX_TTL_MS))
    .option('--ttl <time>', 'without activity for so long, it expires (default 30d)', duration(1000, MAX_TTL_MS))
    .addOption(ifEnded())
    .action((thread: string, options: CreateOptions & JsonOption) =>
      run(context, options, async (output) =>
        (await import('./create.ts')).createSession(context, output, thread, options),
      ),
    );
}

function registerRun(session: Command, context: CliContext): void {
  inProject(session.command('run <thread> [command...]'))
    .usage('[options] <thread> -- <command...>')
    .description('run a command in its workspace; exit code and output are those of the command')
    .option('--id <id>', 'key of the run: the same id with the same command is the same run')
    .option('--message <text>', 'send this to its harness in place of a command; not possible yet')
    .option('--env <name=value>', 'environment variable; may be given many times', assignment)
    .option('--timeout <time>', 'longest time that it may take (default 1h)', duration(1, MAX_RUN_MS))
    .option('--repeatable', 'it may run again where its VM was lost in the middle')
    .addOption(ifEnded())
    .option('--detach', 'do not wait for it')
    .action((thread: string, command: string[], options: RunOptions & JsonOption) =>
      run(context, options, async (output) =>
        (await import('./run.ts')).runCommand(context, output, { thread, command }, options),
      ),
    );
}

function registerReaders(session: Command, context: CliContext): void {
  inProject(session.command('list'))
    .description('sessions, newest first; without --project those of all projects')
    .addOption(new Option('--tier <tier>', 'only those in a tier').choices(TIERS))
    .option('--limit <n>', 'at most so many', wholeNumber(1, 10_000), 50)
    .action((options: JsonOption & ListOptions) =>
      run(context, options, async (output) => (await import('./list.ts')).listSessions(context, output, options)),
    );
  inProject(session.command('inspect <thread>'))
    .description('its tier, what runs, what waits, where, and the last changes with their causes')
    .action((thread: string, options: JsonOption & { project?: string }) =>
      run(context, options, async (output) =>
        (await import('./inspect.ts')).inspectSession(context, output, thread, options),
      ),
    );
  inProject(session.command('output <thread> <run>'))
    .description('the output of a run from its first byte on, until it is over')
    .option('--after <bytes>', 'position behind the last byte that is known', wholeNumber(0, Number.MAX_SAFE_INTEGER))
    .action((thread: string, id: string, options: JsonOption & OutputOptions) =>
      run(context, options, async (output) =>
        (await import('./output.ts')).showOutput(context, output, { thread, id }, options),
      ),
    );
}

function registerEnds(session: Command, context: CliContext): void {
  inProject(session.command('close <thread>'))
    .description('close it: its runs are cancelled, VM and workspace go; may be repeated')
    .option('--wait-ms <n>', 'how long to wait for its end, ms (at most 60000)', wholeNumber(0, 60_000))
    .action((thread: string, options: JsonOption & { project?: string; waitMs?: number }) =>
      run(context, options, async (output) =>
        (await import('./close.ts')).closeSession(context, output, thread, options),
      ),
    );
  inProject(session.command('delete <thread>'))
    .description(
      'delete all that the thread ever had: messages, runs, output, histories; closes it first; may be repeated',
    )
    .option('--wait-ms <n>', 'how long to wait for its close, ms (at most 60000)', wholeNumber(0, 60_000))
    .action((thread: string, options: JsonOption & { project?: string; waitMs?: number }) =>
      run(context, options, async (output) =>
        (await import('./delete.ts')).deleteSession(context, output, thread, options),
      ),
    );
}

/** The API refuses them with UNSUPPORTED, and says what to use instead. */
function registerNotThereYet(session: Command, context: CliContext): void {
  inProject(session.command('sleep <thread>'))
    .description('let it give up its VM until its next run; not possible yet')
    .action((thread: string, options: JsonOption & { project?: string }) =>
      run(context, options, async (output) =>
        (await import('./sleep-and-fork.ts')).sleepSession(context, output, thread, options),
      ),
    );
  inProject(session.command('fork <thread> <copy>'))
    .description('copy it to another thread; not possible yet')
    .option('--turn <n>', 'with the files after that turn (default: the last)', wholeNumber(1, Number.MAX_SAFE_INTEGER))
    .action((thread: string, copy: string, options: JsonOption & ForkOptions) =>
      run(context, options, async (output) =>
        (await import('./sleep-and-fork.ts')).forkSession(context, output, { thread, copy }, options),
      ),
    );
}
