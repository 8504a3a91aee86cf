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
