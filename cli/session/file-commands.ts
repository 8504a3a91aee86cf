import type { Command } from 'commander';
import type { CliContext } from '../cli-context.ts';
import { wholeNumber } from '../option-values.ts';
import { type JsonOption, run } from '../run-command.ts';

interface FileOptions extends JsonOption {
  readonly project?: string;
}
interface ReadingOptions extends FileOptions {
  readonly turn?: number;
}

const ofTurn = (command: Command) =>
  command.option('--turn <n>', 'as it was after that turn', wholeNumber(0, 999_999_999));

/** Registers `kiln session turns` and `kiln session tar`. */
export function registerTurnCommands(
  session: Command,
  context: CliContext,
  inProject: (command: Command) => Command,
): void {
  inProject(session.command('turns <thread>'))
    .description('the turns whose workspace is kept, newest first')
    .action((thread: string, options: FileOptions) =>
      run(context, options, async (output) =>
        (await import('./files.ts')).listTurns(context, output, { thread, ...options }),
      ),
    );
  ofTurn(inProject(session.command('tar <thread> [file]')))
    .description('the whole saved workspace as a tar, to stdout or into a file here')
    .action((thread: string, file: string | undefined, options: ReadingOptions) =>
      run(context, options, async (output) =>
        (await import('./files.ts')).getTar(context, output, { thread, ...options }, file),
      ),
    );
}

/** Registers `kiln session files …`. */
export function registerFileCommands(
  session: Command,
  context: CliContext,
  inProject: (command: Command) => Command,
): void {
  const files = session.command('files').description('files in the workspace of a session, beside its runs');
  ofTurn(inProject(files.command('ls <thread> [dir]')))
    .description('entries of a folder; without one, of the workspace itself')
    .action((thread: string, dir: string | undefined, options: ReadingOptions) =>
      run(context, options, async (output) =>
        (await import('./files.ts')).listFiles(context, output, {
          thread,
          ...(dir === undefined ? {} : { dir }),
          ...options,
        }),
      ),
    );
  ofTurn(inProject(files.command('get <thread> <path> [file]')))
    .description('read a file, to stdout or into a file here')
    .action((thread: string, path: string, file: string | undefined, options: ReadingOptions) =>
      run(context, options, async (output) =>
        (await import('./files.ts')).getFile(context, output, { thread, path, ...options }, file),
      ),
    );
  inProject(files.command('put <thread> <path> <file>'))
    .description('write a file from one here, at most 64 MiB')
    .action((thread: string, path: string, file: string, options: FileOptions) =>
      run(context, options, async (output) =>
        (await import('./files.ts')).putFile(context, output, { thread, path, ...options }, file),
      ),
    );
  inProject(files.command('rm <thread> <path>'))
    .description('remove a file, a link or an empty folder')
    .action((thread: string, path: string, options: FileOptions) =>
      run(context, options, async (output) =>
        (await import('./files.ts')).removeFile(context, output, { thread, path, ...options }),
      ),
    );
}
