/** The `kiln` command. */
import type { KilnClient } from '../client/http/kiln-client.ts';
import { type CliContext, DEFAULT_CLI_TIMINGS, EXIT } from './cli-context.ts';
import { runCli } from './run-cli.ts';

let connected: Promise<KilnClient> | undefined;

const context: CliContext = {
  stdout: process.stdout,
  stderr: process.stderr,
  findStack: async () => (await import('../config/cli-config.ts')).findStack(),
  connect: () => {
    connected ??= connectToStack();
    return connected;
  },
  interruptible: () => {
    const controller = new AbortController();
    // A second Ctrl-C ends a command that does not heed the first.
    const abort = (): void => (controller.signal.aborted ? process.exit(EXIT.interrupted) : controller.abort());
    process.on('SIGINT', abort);
    return { signal: controller.signal, release: () => void process.off('SIGINT', abort) };
  },
  begin: () => {
    process.stdout.on('error', (error) => {
      if ('code' in error && error.code === 'EPIPE') process.exit(0);
      throw error;
    });
  },
  exit: (code) => {
    // A command that is still running here (`dev`, a worker) sets its own.
    if (code !== 0) process.exitCode = code;
  },
  now: Date.now,
  timings: DEFAULT_CLI_TIMINGS,
};

async function connectToStack(): Promise<KilnClient> {
  const { apiUrl, token } = await context.findStack();
  const { createKilnClient } = await import('../client/http/kiln-client.ts');
  return createKilnClient({ apiUrl, token });
}

await runCli(process.argv.slice(2), context);
