import { spawn } from 'node:child_process';
import { defined } from '../domain/defined.ts';
import { KilnError } from '../domain/failures.ts';

export interface CommandOptions {
  readonly cwd?: string;
  readonly signal?: AbortSignal;
}

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const KEPT_OUTPUT = 1 << 20;

/**
 * Runs a program to its end, without a shell and without stdin.
 * @param argv program and arguments; arguments are never interpreted by a shell
 * @returns exit code and the last MiB of each output; -1 for death by a signal
 * @throws UNSUPPORTED where the program is not installed
 */
export async function runCommand(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const [program, ...args] = argv;
  if (program === undefined) throw new KilnError('INTERNAL', 'runCommand was given an empty command');
  return await new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      ...defined({ cwd: options.cwd, signal: options.signal }),
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout = (stdout + text).slice(-KEPT_OUTPUT);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-KEPT_OUTPUT);
    });
    child.on('error', (error: NodeJS.ErrnoException) => reject(startError(program, error)));
    child.on('close', (code) => resolve({ code: code ?? -1, stdout, stderr }));
  });
}

function startError(program: string, error: NodeJS.ErrnoException): Error {
  return error.code === 'ENOENT' ? notInstalled(program) : error;
}

/**
 * As `runCommand`, for commands that must succeed; they speak English, whatever the locale here.
 * @returns its standard output
 * @throws UNSUPPORTED where it is not installed, DISK_FULL where it says so, else INTERNAL with its last lines
 */
export async function mustRun(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await runCommand(['env', 'LC_ALL=C', ...argv], options);
  if (code === 0) return stdout;
  const tail = stderr.trimEnd().split('\n').slice(-12).join('\n');
  const details = { command: argv.slice(0, 12).join(' '), code, stderr: tail };
  if (code === NOT_INSTALLED) throw notInstalled(argv[0] ?? '');
  if (stderr.includes('No space left on device')) {
    throw new KilnError('DISK_FULL', `${argv[0]}: no space left on the disk; free some and try again`, details);
  }
  throw new KilnError('INTERNAL', `${argv[0]} ended with code ${code}: ${tail}`, details);
}

/** Exit code of env(1) where the program does not exist. */
const NOT_INSTALLED = 127;

function notInstalled(program: string): KilnError {
  return new KilnError('UNSUPPORTED', `${program} is not installed: run \`npm run setup\`, which installs it`, {
    program,
  });
}
