/** Child processes of set-up. */
import { spawn } from 'node:child_process';

/** Something that set-up cannot do by itself: the message says what, `fix` is the exact command. */
export class SetupError extends Error {
  constructor(message, fix) {
    super(fix === undefined ? message : `${message}\n  Run:  ${fix}`);
    this.name = 'SetupError';
  }
}

/** Children that run now; those with a terminal share this process's group, the others lead one of their own. */
const running = new Map();

/** Ends the running program and its children. The next run sweeps half-made files. */
export function endChildren() {
  for (const [child, ownGroup] of running) {
    try {
      process.kill(ownGroup ? -child.pid : child.pid, 'SIGTERM');
    } catch {
      // It has just ended.
    }
  }
}

function stopChildren(signal) {
  endChildren();
  process.exit(128 + (signal === 'SIGINT' ? 2 : 15));
}

/**
 * Runs a program without a shell.
 * @param options `onLine` gets each line of its error output; `interactive` gives it the terminal (for sudo)
 * @returns its exit code and outputs; code 127 where it is not installed
 */
export function run(argv, { cwd, env, onLine, interactive = false } = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(argv[0], argv.slice(1), {
      cwd,
      env: { ...process.env, ...env },
      stdio: [interactive ? 'inherit' : 'ignore', 'pipe', 'pipe'],
      detached: !interactive,
    });
    if (running.size === 0) for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, stopChildren);
    running.set(child, !interactive);
    const forget = () => {
      running.delete(child);
      if (running.size === 0) for (const signal of ['SIGINT', 'SIGTERM']) process.off(signal, stopChildren);
    };
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr = (stderr + text).slice(-200_000);
      for (const line of text.split('\n')) if (line.trim() !== '') onLine?.(line.trim());
    });
    child.on('error', (error) => {
      forget();
      // EACCES: found only in a folder of PATH that this user may not read, which counts as not found.
      if (error.code === 'ENOENT' || error.code === 'EACCES')
        resolve({ code: 127, stdout, stderr: `${argv[0]}: not found` });
      else reject(error);
    });
    child.on('close', (code) => {
      forget();
      resolve({ code: code ?? 1, stdout, stderr });
    });
  });
}

/** As `run`, for programs that must succeed. @throws SetupError with the end of its output and `fix` */
export async function mustRun(argv, { fix, ...options } = {}) {
  const { code, stdout, stderr } = await run(argv, options);
  if (code === 0) return stdout;
  throw new SetupError(
    `${argv.slice(0, 4).join(' ')} … ended with code ${code}:\n    ${excerpt(stderr.trim() || stdout.trim())}`,
    fix,
  );
}

/** Programs name the cause in the first or the last lines of their error output. */
function excerpt(text) {
  const lines = text.split('\n');
  const shown = lines.length <= 20 ? lines : [...lines.slice(0, 8), '…', ...lines.slice(-11)];
  return shown.join('\n    ');
}

/**
 * @returns how to run a command as root here: `[]` for root, `['sudo']` where sudo works without a question or can ask
 * @throws SetupError naming `command` where there is no way
 */
export async function asRoot(command) {
  if (process.getuid?.() === 0) return [];
  if ((await run(['sudo', '-n', 'true'])).code === 0) return ['sudo'];
  if (process.stdin.isTTY && (await run(['sudo', '--version'])).code === 0) return ['sudo'];
  throw new SetupError('this needs root, and there is neither root nor a usable sudo', command);
}

/**
 * Runs a program in place of this process: with its terminal, signals and exit code.
 * A terminal sends Ctrl-C to the whole group, so it is passed on only where there is none.
 */
export function become(argv, { env } = {}) {
  const child = spawn(argv[0], argv.slice(1), { stdio: 'inherit', env: { ...process.env, ...env } });
  process.on('SIGINT', () => {
    if (!process.stdin.isTTY) child.kill('SIGINT');
  });
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('error', (error) => {
    process.stderr.write(`${argv[0]}: ${error.message}\n`);
    process.exit(1);
  });
  child.on('exit', (code, signal) => {
    process.exit(code ?? 128 + ({ SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGTERM: 15 }[signal] ?? 1));
  });
}
