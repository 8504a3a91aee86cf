import { DefaultLogger, Runtime } from '@temporalio/worker';
import type { Logger } from 'pino';

/** Sends the SDK's own log lines to the process's logger; must run before the first worker is made. */
export function installRuntime(log: Logger): void {
  Runtime.install({
    shutdownSignals: [],
    logger: new DefaultLogger('WARN', ({ level, message, meta }) => {
      const write = level === 'ERROR' ? log.error : log.warn;
      write.call(log, { sdk: meta }, message);
    }),
  });
}
