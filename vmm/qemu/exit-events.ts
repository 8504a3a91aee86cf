import { z } from 'zod';
import { jsonOrUndefined } from '../../domain/json-or-undefined.ts';
import type { VmExit, VmExitReason } from '../../domain/vm.ts';
import { readTextTail } from '../../linux/read-text.ts';
import type { ProcessEnd } from '../vm-process.ts';

/**
 * Why a VMM ended, from the events that QEMU itself wrote to a file: so the reason is known even where no worker was
 * there to listen. The exit code says nothing: it is 0 after a panic too.
 */
const shutdownEvent = z.object({
  event: z.literal('SHUTDOWN'),
  data: z.object({ guest: z.boolean(), reason: z.string().max(64).exactOptional() }),
});

const TAIL_BYTES = 64 * 1024;

const REASONS: Readonly<Record<string, VmExitReason>> = {
  'guest-shutdown': 'guest-shutdown',
  // A kernel that panics resets the machine (panic=-1, reboot=t); the agent never does.
  'guest-reset': 'guest-panic',
  'guest-panic': 'guest-panic',
  'host-signal': 'killed',
  'host-qmp-quit': 'killed',
  'host-error': 'vmm-crash',
};

/** Signals that somebody sends to end a process; any other one is a fault of the process itself. */
const KILLING_SIGNALS: readonly string[] = ['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT'];

/** @returns QEMU's own word for the last shutdown in the event file's text; undefined where none was written */
export function lastShutdownReason(text: string): string | undefined {
  for (const line of text.split('\n').reverse()) {
    const parsed = shutdownEvent.safeParse(jsonOrUndefined(line));
    if (parsed.success) return parsed.data.data.reason ?? 'unknown';
  }
  return undefined;
}

/** @param end how the process ended, where this worker was its parent */
export function explainExit(shutdownReason: string | undefined, end: ProcessEnd | undefined): VmExit {
  const { code, signal } = end ?? { code: null, signal: null };
  if (shutdownReason !== undefined) return { reason: REASONS[shutdownReason] ?? 'unknown', code, signal };
  if (signal !== null) return { reason: KILLING_SIGNALS.includes(signal) ? 'killed' : 'vmm-crash', code, signal };
  if (code !== null && code !== 0) return { reason: 'vmm-crash', code, signal };
  return {
    reason: 'unknown',
    code,
    signal,
    detail: 'the VMM ended without an event: killed or crashed while nobody watched',
  };
}

/** @returns the end of the event file, '' where there is none */
export function readEventTail(path: string): Promise<string> {
  return readTextTail(path, TAIL_BYTES);
}
