import type { HostLogger } from '../../../host/host-logger.ts';

/** For tests that do not check log entries. */
export const silentLogger: HostLogger = { info: () => undefined, warn: () => undefined, error: () => undefined };
