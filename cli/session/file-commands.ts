import type { Command } from 'commander';
import type { CliContext } from '../cli-context.ts';
import { type JsonOption, run } from '../run-command.ts';

interface FileOptions extends JsonOption {
  readonly project?: string;
}

/** Registers `kiln session files …`. */
export function registerFileCommands(
  session: Command,
  context: CliContext,
  inProject: (command: Command) => Command,
): void {
  const files = session.command('files').description('files in the workspace of a session, beside its runs');
  inProject(files.command('ls <thread> [dir]'))
    .description('entries of a folder; without one, of the workspace itself')
    .action((thread: string, dir: string | undefined, options: FileOptions) =>
      run(context, options, async (output) =>
        (await import('./files.ts')).listFiles(context, output, {
          thread,
          ...(dir === undefined ? {} : { dir }),
          ...options,
        }),
      ),
    );
  inProject(files.command('get <thread> <path> [file]'))
    .description('read a file, to stdout or into a file here')
    .action((thread: string, path: string, file: string | undefined, options: FileOptions) =>
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
