/** Writes the refused connections of a VM into the log of its service: each once, and only a limited number. */

import type { LogLevel } from '../../domain/logs/log-entry.ts';
import { AT_WORK } from '../../domain/logs/log-stage.ts';
import { type LogRef, ownerRefOf } from '../../domain/owner.ts';
import type { LogWriter } from '../../ports/logs.ts';
import type { VmInspection } from '../../ports/vm-driver.ts';
import { safeText } from '../logs/output-lines.ts';

export interface RefusalLogOptions {
  readonly inspect: (vmId: string) => Promise<VmInspection | undefined>;
  readonly logs: {
    open(log: LogRef): Promise<Pick<LogWriter, 'write' | 'flush'>>;
  };
  /** Most different refusals logged per VM; a guest can invent any number of names. */
  readonly perVm: number;
}

export interface RefusalLog {
  /** @returns whether this refusal was new. Never throws: a note that cannot be written does not count. */
  note(vmId: string, request: { name: string; port: number }, reason: string): Promise<boolean>;
  /** The VM is gone. */
  forget(vmId: string): void;
}

const LEVEL: LogLevel = 'warn';

export function createRefusalLog(options: RefusalLogOptions): RefusalLog {
  const told = new Map<string, Set<string>>();
  return {
    async note(vmId, { name, port }, reason) {
      const known = told.get(vmId) ?? new Set<string>();
      told.set(vmId, known);
      const what = `${safeText(name).slice(0, 253)}:${port}`;
      if (known.has(what) || known.size >= options.perVm) return false;
      known.add(what);
      const rest = known.size === options.perVm ? ' (further refusals are not told)' : '';
      const found = await options.inspect(vmId).catch(() => undefined);
      const log = found === undefined ? undefined : ownerRefOf(found.owner);
      if (found === undefined || log === undefined) return true;
      const stage = found.owner.role === 'builder' ? 'build' : AT_WORK[log.kind];
      const writer = await options.logs.open(log).catch(() => undefined);
      writer?.write(stage, LEVEL, `connection to ${what} refused: ${reason}${rest}`);
      return true;
    },
    forget: (vmId) => void told.delete(vmId),
  };
}
