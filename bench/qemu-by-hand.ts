/** The rival of a boot: QEMU started by hand, with the arguments that Kiln gives it, and nothing else. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, readFile, readlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { connectAgent } from '../vmm/agent/connect-agent.ts';
import { writeEventFiles } from '../vmm/qemu/event-files.ts';

export interface DriveFile {
  readonly path: string;
  readonly format: 'raw' | 'qcow2';
}

/** How a VMM with a user of its own gets files: as descriptors that no other process has. */
const LENT_FILE = /\/proc\/self\/fd\/(\d+)/g;

/** @returns the arguments that a running process was started with; files passed as descriptors appear by name. */
export async function argumentsOf(pid: number): Promise<string[]> {
  const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0').filter((word) => word !== '');
  return await Promise.all(words.map((word) => withNames(word, pid)));
}

async function withNames(word: string, pid: number): Promise<string> {
  const lent = new Map<string, string>();
  for (const [, descriptor = ''] of word.matchAll(LENT_FILE)) {
    lent.set(descriptor, await readlink(`/proc/${pid}/fd/${descriptor}`));
  }
  return word.replace(LENT_FILE, (path, descriptor) => lent.get(descriptor) ?? path);
}

/**
 * @returns the same command line for another VM: sockets and logs in `directory`, and `drives` in place of its drives.
 * @throws Error where the number of drives differs.
 */
export function commandLineByHand(argv: readonly string[], directory: string, drives: readonly DriveFile[]): string[] {
  const rest = [...drives];
  const rewritten = argv.map((word, at) => {
    if (argv[at - 1] === '-chardev') {
      return word.replace(/(^|,)path=([^,]*)/, (_, comma, path) => `${comma}path=${join(directory, basename(path))}`);
    }
    if (argv[at - 1] !== '-drive') return word;
    const drive = rest.shift();
    if (drive === undefined) throw new Error(`there are more than ${drives.length} drives in the command line`);
    // A raw disk lies over nothing, whatever the one in whose place it comes lay over.
    const own = drive.format === 'raw' ? word.replace(/,backing\.[^,]*/g, '') : word;
    return own
      .replace(/(^|,)file=[^,]*/, (_, comma) => `${comma}file=${drive.path}`)
      .replace(/(^|,)format=[^,]*/, (_, comma) => `${comma}format=${drive.format}`);
  });
  if (rest.length > 0) throw new Error(`${rest.length} drives are not in the command line`);
  return rewritten;
}

export interface BootByHand {
  readonly argv: readonly string[];
  readonly directory: string;
  readonly drives: readonly DriveFile[];
  /** Resolves once the agent behind the socket has said hello. */
  readonly hello: (socketPath: string) => Promise<void>;
}

/** Starts QEMU, waits for the agent's hello, kills it. @returns the time from the start to the hello in ms. */
export async function bootByHand({ argv, directory, drives, hello }: BootByHand): Promise<number> {
  await mkdir(directory, { recursive: true });
  await writeEventFiles(directory);
  const words = commandLineByHand(argv, directory, drives);
  const begun = performance.now();
  // The kernel ends it with this process, however that ends.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...words], { stdio: 'ignore' });
  const exited = exitOf(child);
  try {
    const early = exited.then((how) => {
      throw new Error(`QEMU ended before the guest said hello: ${how}`);
    });
    await Promise.race([hello(join(directory, 'agent.sock')), early]);
    return performance.now() - begun;
  } finally {
    child.kill('SIGKILL');
    await exited;
  }
}

/** @returns a function that waits for an agent's hello behind a socket, then closes it. */
export function helloWithin(deadlineMs: number, signal: AbortSignal): BootByHand['hello'] {
  return async (socketPath) => {
    const agent = await connectAgent({ connect: socketPath, deadlineMs, signal });
    await agent.detach();
  };
}

function exitOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(signal ?? `code ${code}`));
  });
}
