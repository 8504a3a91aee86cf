import { spawn } from 'node:child_process';
import { KilnError } from '../domain/failures.ts';

export interface CommandOptions {
  readonly cwd?: string;
  /** Added to the inherited environment. */
  readonly env?: Readonly<Record<string, string>>;
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
 * @returns exit code and the last MiB of each output; -1 stands for death by a signal
 * @throws UNSUPPORTED where the program is not installed
 */
export async function runCommand(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const [program, ...args] = argv;
  if (program === undefined) throw new KilnError('INTERNAL', 'runCommand was given an empty command');
  return await new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
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
  if (error.code !== 'ENOENT') return error;
  return new KilnError('UNSUPPORTED', `${program} is not installed: run \`npm run setup\`, which installs it`, {
    program,
  });
}

/**
 * As `runCommand`, for commands that must succeed.
 * @returns its standard output
 * @throws DISK_FULL where the command says so, else INTERNAL with the last lines of its error output
 */
export async function mustRun(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await runCommand(argv, { ...options, env: { LC_ALL: 'C', ...options.env } });
  if (code === 0) return stdout;
  const tail = stderr.trimEnd().split('\n').slice(-12).join('\n');
  const details = { command: argv.slice(0, 12).join(' '), code, stderr: tail };
  if (stderr.includes('No space left on device')) {
    throw new KilnError('DISK_FULL', `${argv[0]}: no space left on the disk; free some and try again`, details);
  }
  throw new KilnError('INTERNAL', `${argv[0]} ended with code ${code}: ${tail}`, details);
}
