import { resolve } from 'node:path';
import { inheritedEnvironment, readEnvironment, stackPaths } from '../../config/environment.ts';
import { readSetupRecord } from '../../config/setup-record.ts';
import { keepFilesPrivate } from '../../linux/private-files.ts';
import { type DevStack, startDevStack } from './dev-stack.ts';
import type { SupervisorEvent } from './process-supervisor.ts';

/** How patient the supervisor of a laptop's stack is. */
const TIMINGS = {
  readyDeadlineMs: 90_000,
  readyPollMs: 50,
  restartBackoffMs: 200,
  maxRestartBackoffMs: 5_000,
  stopGraceMs: 15_000,
};

/**
 * Starts the stack of this folder with what the environment says; progress goes to standard error.
 * @param given variables that options of the command stand for; they count over the environment
 */
export async function launchStack(
  signal: AbortSignal,
  say: (text: string) => void,
  given: Readonly<Record<string, string>> = {},
): Promise<DevStack> {
  // Its servers, too, which know nothing of modes.
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

/** Starts and stops are progress of their own; what ended by itself is news. */
function tellEvent(event: SupervisorEvent, say: (text: string) => void): void {
  if (event.kind === 'exited') say(`${event.name} ended by itself (${event.detail ?? 'unknown'}); starting it again`);
}

/**
 * The one owner of Ctrl-C. The first asks for an orderly end; a second one is for who cannot wait.
 * @returns a signal that fires on SIGINT or SIGTERM
 */
export function ownInterrupts(say: (text: string) => void): AbortSignal {
  const ending = new AbortController();
  // A terminal or pipe that is gone must not take this process along before it has ended the stack.
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
