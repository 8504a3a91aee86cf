/** Holds: callers that use the VM of a session beside its runs. Pure; the workflow is the only writer. */
import { KilnError } from '../failures.ts';

/** What a hold may be for, and whether that is activity, which moves the expiry of the session. */
export const HOLD_KINDS = {
  readFiles: { isActivity: false },
  writeFiles: { isActivity: true },
} as const satisfies Record<string, { readonly isActivity: boolean }>;
export type HoldKind = keyof typeof HOLD_KINDS;

/** Holds of a session at a time. */
export const MAX_HOLDS = 16;

export interface HoldOrder {
  /** Minted by the caller; the same id again keeps its hold for longer. */
  readonly id: string;
  readonly kind: HoldKind;
}

/** The VM that a hold got: it is neither paused nor released while the hold is there, unless the session leaves. */
export interface HeldVm {
  readonly hostId: string;
  readonly vmId: string;
  readonly epoch: number;
}

/** The holds of a session: when each ends by itself, ms since 1970; undefined while it waits for the VM. */
export type Holds = ReadonlyMap<string, number | undefined>;

/** @returns the holds that are not over */
export function holdsAt(holds: Holds, nowMs: number): Holds {
  return new Map([...holds].filter(([, endsAt]) => endsAt === undefined || endsAt > nowMs));
}

/** @throws QUEUE_FULL where no further hold can be taken; a known id can always be kept for longer */
export function judgeHold(holds: Holds, { id }: HoldOrder, nowMs: number): void {
  const present = holdsAt(holds, nowMs);
  if (present.has(id) || present.size < MAX_HOLDS) return;
  throw new KilnError('QUEUE_FULL', `${MAX_HOLDS} callers use the VM of this session already; try again in a moment.`);
}

/** @returns when all of them are over, ms since 1970; undefined where one waits, or there is none */
export function holdsEndAt(holds: Holds): number | undefined {
  let last: number | undefined;
  for (const endsAt of holds.values()) {
    if (endsAt === undefined) return undefined;
    last = Math.max(last ?? 0, endsAt);
  }
  return last;
}
