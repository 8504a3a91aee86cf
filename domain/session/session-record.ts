/** What is durable of a thread outside of workflows: its present incarnation with its settings, and how that ended. */
import type { ThreadName } from '../names.ts';

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
}

export interface SessionRecord extends ThreadName {
  readonly schemaVersion: 1;
  readonly incarnation: number;
  readonly settings: SessionSettings;
  /** Of this incarnation; ISO 8601. */
  readonly createdAt: string;
  /** Present once this incarnation is over. */
  readonly end?: SessionEnd;
}
