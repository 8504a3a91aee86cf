/** What is durable of a thread outside of workflows: its present incarnation with its settings, and how that ended. */
import { KilnError } from '../failures.ts';
import type { SessionName, ThreadName } from '../names.ts';

export interface SessionSettings {
  /** The digest is resolved when the session is created, and stays. */
  readonly image: { readonly name: string; readonly digest: string };
  /** `diskMib`: size of /workspace. */
  readonly resources: { readonly vcpus: number; readonly memMib: number; readonly diskMib: number };
  /** `host:port` or `*.domain:port`; empty: nothing can be reached. */
  readonly egress: readonly string[];
  readonly tiers: {
    /** Without activity for so long, a warm session goes cold, ms. */
    readonly idleMs: number;
    /** Without activity for so long, the session expires, ms. */
    readonly ttlMs: number;
  };
}

export interface SessionEnd {
  readonly as: 'closed' | 'expired' | 'deleted';
  /** ISO 8601. */
  readonly at: string;
  readonly cause: string;
  /** Number of the last run; 0 where there was none. */
  readonly lastTurn: number;
  /** Of a deleted one: since when nothing but this record is left of the thread; ISO 8601. */
  readonly emptiedAt?: string;
}

export interface SessionRecord extends ThreadName {
  readonly schemaVersion: 1;
  readonly incarnation: number;
  readonly settings: SessionSettings;
  /** Of this incarnation; ISO 8601. */
  readonly createdAt: string;
  /** Present once this incarnation is over. */
  readonly end?: SessionEnd;
  /** Its saves may be deleted then; ISO 8601. Absent where it ended by a deletion, or in an earlier version. */
  readonly deleteAfter?: string;
}

/** @returns whether nothing of it is to be shown any more but that it was there */
export function isDeleted({ end }: Pick<SessionRecord, 'end'>): boolean {
  return end?.as === 'deleted';
}

/** @returns whether a deletion was begun that has not removed everything yet */
export function isBeingDeleted(record: SessionRecord): boolean {
  return isDeleted(record) && record.end?.emptiedAt === undefined;
}

/** @returns the failure that tells a caller that an incarnation is over: 410 with how, when and its last turn */
export function hasEnded({ thread, incarnation }: SessionName, record: SessionRecord): KilnError {
  const end = record.incarnation === incarnation ? record.end : undefined;
  const code = end?.as === 'expired' ? 'SESSION_EXPIRED' : 'SESSION_CLOSED';
  const how = end === undefined ? 'has ended' : `was ${end.as} at ${end.at}: ${end.cause}`;
  const fix = 'A run with ifEnded "restart" begins a new one.';
  const details = end === undefined ? {} : { as: end.as, at: end.at, cause: end.cause, lastTurn: end.lastTurn };
  return new KilnError(code, `The session of thread ${thread} ${how}. ${fix}`, details);
}

/** @returns the names of settings that differ */
export function changedSettings(before: SessionSettings, after: SessionSettings): readonly string[] {
  const old: Readonly<Record<string, unknown>> = { ...before };
  return Object.entries(after)
    .filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(old[name]))
    .map(([name]) => name);
}
