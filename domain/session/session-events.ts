/** Why anything of a session changed: one list of causes, one bounded list of events. What tells "why" reads these. */
import type { Tier } from './tiers.ts';

/** Every cause, and what it says to people. */
export const CAUSES = {
  MESSAGE: 'a first message asked for it',
  RUN_WAITS: 'a run waits for a VM',
  RUN_ENDED: 'its run has ended and no other waits',
  RUN_ASKED: 'a caller sent it',
  RUN_TURN: 'it is its turn',
  RUN_EXITED: 'its process exited',
  RUN_FAILED: 'it failed',
  RUN_REPEATED: 'its VM was lost, and it may be repeated',
  KNOWN_RUN: 'the store has the end of a run with this id',
  CANCEL_ASKED: 'a caller cancelled it',
  CLOSE_ASKED: 'a caller closed the session',
  STOPPED_IN_TEMPORAL: 'its workflow was cancelled in Temporal',
  TTL_PASSED: 'it was without activity for its whole time to live',
  PLACED: 'a host has room for it',
  NO_ROOM: 'no host has room for it now',
  BOOTED: 'its VM answers',
  BOOT_FAILED: 'its VM could not be started',
  VM_DIED: 'its VM ended',
  HOST_LOST: 'its host does not answer any more',
  HOLD: 'a caller uses its VM',
  HOLD_ENDED: 'no caller uses its VM any more',
  PATCHED: 'a caller changed its settings',
  IDLE: 'it was idle for its whole idle time, and its workspace is in the store',
  SLEEP_ASKED: 'a caller let it sleep, and its workspace is in the store',
  SAVE_FAILED: 'its workspace could not be saved',
  SAVE_AGAIN: 'what could not be saved is tried again',
  RESTORED: 'its workspace is back, as it was saved',
} as const;
export type CauseCode = keyof typeof CAUSES;

export interface Cause {
  readonly code: CauseCode;
  /** More about this one time: an exit, a failure code, a host. Never text of a message. */
  readonly detail?: string;
}

/** What an event is about. */
export type SessionChange =
  | { readonly of: 'tier'; readonly from: Tier; readonly to: Tier }
  | {
      readonly of: 'run';
      readonly runId: string;
      readonly to: 'waiting' | 'running' | 'finished' | 'failed' | 'cancelled';
    }
  | { readonly of: 'vm'; readonly vmId: string; readonly to: 'starting' | 'running' | 'gone' }
  | { readonly of: 'place'; readonly to: 'waiting' | 'placed' | 'lost'; readonly hostId?: string }
  | { readonly of: 'settings'; readonly fields: readonly string[] }
  | { readonly of: 'save'; readonly turn: number; readonly to: 'failed' | 'restored' };

export type SessionEvent = SessionChange & {
  /** Counted from 1 in the life of an incarnation; older events than those carried are in the histories. */
  readonly seq: number;
  /** ISO 8601. */
  readonly at: string;
  readonly cause: Cause;
};

/** Events that a session carries with it. */
export const CARRIED_EVENTS = 100;
const MAX_DETAIL = 200;

/** @returns the list with one more event; the oldest go beyond `CARRIED_EVENTS`. */
export function withEvent(
  events: readonly SessionEvent[],
  change: SessionChange,
  { at, cause }: { readonly at: string; readonly cause: Cause },
): readonly SessionEvent[] {
  const detail = cause.detail?.slice(0, MAX_DETAIL).toWellFormed();
  const bounded: Cause = detail === undefined ? { code: cause.code } : { code: cause.code, detail };
  const event: SessionEvent = { ...change, seq: (events.at(-1)?.seq ?? 0) + 1, at, cause: bounded };
  return [...events, event].slice(-CARRIED_EVENTS);
}

/** @returns a cause as one sentence. */
export function causeInWords({ code, detail }: Cause): string {
  return detail === undefined ? CAUSES[code] : `${CAUSES[code]}: ${detail}`;
}
