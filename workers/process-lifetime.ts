import pino, { type Logger } from 'pino';

/** @returns the structured logger of a process; one JSON object a line on standard output. */
export function processLogger(name: string, level: string): Logger {
  return pino({ name, level });
}

/**
 * One owner of the process's signals: the SDK would otherwise answer SIGINT by itself, and a second time for each
 * worker. @returns a signal that fires on SIGINT or SIGTERM
 */
export function processLifetime(log: Logger): AbortSignal {
  const ending = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => {
      log.info({ signal: name }, 'ending');
      ending.abort();
    });
  }
  return ending.signal;
}

/**
 * Runs the work of a process. If it fails, the process ends with code 1: listening servers and open connections
 * would keep a process alive that does no work, and no supervisor would start another.
 * @throws what the work throws, before the process ends
 */
export async function endOnFailure(
  work: () => Promise<void>,
  exit: (code: number) => void = process.exit,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    // The caller may still report the reason.
    setImmediate(() => exit(1));
    throw error;
  }
}
