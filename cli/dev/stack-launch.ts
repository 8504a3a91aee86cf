import { resolve } from 'node:path';
import { inheritedEnvironment, readEnvironment, stackPaths } from '../../config/environment.ts';
import { readSetupRecord } from '../../config/setup-record.ts';
import { keepFilesPrivate } from '../../linux/private-files.ts';
import { type DevStack, startDevStack } from './dev-stack.ts';
import type { SupervisorEvent } from './process-supervisor.ts';

/** Timeouts and pauses of the supervisor of a laptop's stack. */
const TIMINGS = {
  readyDeadlineMs: 90_000,
  readyPollMs: 50,
  restartBackoffMs: 200,
  maxRestartBackoffMs: 5_000,
  stopGraceMs: 15_000,
};

/**
 * Starts the stack of this folder with what the environment says; progress goes to standard error.
 * @param given variables set by options of the command; they override the environment
 */
export async function launchStack(
  signal: AbortSignal,
  say: (text: string) => void,
  given: Readonly<Record<string, string>> = {},
): Promise<DevStack> {
  // It also applies to the servers it starts, which do not set file modes themselves.
  keepFilesPrivate();
  const baseEnv = { ...inheritedEnvironment(), ...given };
  const env = readEnvironment(baseEnv);
  const paths = stackPaths(env, process.getuid?.() ?? 0);
  return startDevStack(
    {
      env,
      paths,
      setup: readSetupRecord(),
      baseEnv,
      projectRoot: resolve(env.KILN_PROJECT_ROOT ?? '.'),
      timings: TIMINGS,
      onProgress: say,
      onEvent: (event) => tellEvent(event, say),
    },
    signal,
  );
}

/** Starts and stops are already reported as progress; only processes that ended by themselves are reported here. */
function tellEvent(event: SupervisorEvent, say: (text: string) => void): void {
  if (event.kind === 'exited') say(`${event.name} ended by itself (${event.detail ?? 'unknown'}); starting it again`);
}

/**
 * The one owner of Ctrl-C. The first asks for an orderly end; later ones only print a notice.
 * @returns a signal that fires on SIGINT or SIGTERM
 */
export function ownInterrupts(say: (text: string) => void): AbortSignal {
  const ending = new AbortController();
  // A closed terminal or pipe must not end this process before it has ended the stack.
  for (const output of [process.stdout, process.stderr]) output.on('error', () => undefined);
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(name, () => {
      if (ending.signal.aborted) say('already stopping, please wait');
      ending.abort();
    });
  }
  return ending.signal;
}

/** @returns when the signal fires. */
export function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    if (signal.aborted) done();
    signal.addEventListener('abort', () => done(), { once: true });
  });
}
