import type { HostLogger } from '../../../host/host-logger.ts';

/** For tests that do not look at what is logged. */
export const silentLogger: HostLogger = { info: () => undefined, warn: () => undefined, error: () => undefined };
