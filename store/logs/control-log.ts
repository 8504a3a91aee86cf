/** The log lines of workflows: each is an object of its own, so that a repeated write is the same line. */

import { MAX_LOG_MESSAGE, type NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import { storeKeys } from '../../domain/names.ts';
import type { ControlLog } from '../../ports/logs.ts';
import type { ObjectStore } from '../object-store.ts';
import { writeOnce } from '../write-once.ts';

export const CONTROL_WRITER = 'control';

/** @param clock milliseconds since 1970, for lines that do not say when they were written */
export function createControlLog(store: ObjectStore, clock: () => number = Date.now): ControlLog {
  return {
    append: async ({ workloadId, epoch, n, stage, level, message, timestamp }) => {
      const entry: NumberedLogEntry = {
        timestamp: timestamp ?? new Date(clock()).toISOString(),
        stage,
        message: message.slice(0, MAX_LOG_MESSAGE),
        level,
        epoch,
        writer: CONTROL_WRITER,
        n,
      };
      await writeOnce(store, storeKeys.logChunk(workloadId, epoch, CONTROL_WRITER, n), entry);
    },
  };
}
