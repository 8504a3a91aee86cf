/** What the store holds of threads: their sessions and the ends of their runs. Types only; see `ports/README.md`. */
import type { SessionName, ThreadName } from '../domain/names.ts';
import type { EndedRun } from '../domain/session/run-book.ts';
import type { SessionEnd, SessionRecord, SessionSettings } from '../domain/session/session-record.ts';
import type { RunRequestSeal } from './runs.ts';

/** Which incarnation of a thread lives, with which settings, or how the last one ended. */
export interface SessionRecords {
  /** @returns undefined for a thread that never was. */
  read(name: ThreadName): Promise<SessionRecord | undefined>;
  /**
   * Begins the first incarnation of a thread, or the next one after the one that has ended.
   * @param after the incarnation that must have ended; 0 for the first
   * @returns the record that is there now: ours, or the one of whoever was first. Its incarnation is above `after`
   * @throws CONFLICT where incarnation `after` has not ended
   */
  begin(
    name: ThreadName,
    begun: { after: number; settings: SessionSettings; createdAt: string },
  ): Promise<SessionRecord>;
  /** Replaces the settings of an incarnation that lives. @throws SESSION_CLOSED, SESSION_EXPIRED, NOT_FOUND */
  change(name: SessionName, change: (settings: SessionSettings) => SessionSettings): Promise<SessionRecord>;
  /**
   * Notes the end of an incarnation, once: a second end changes nothing.
   * @returns the record as it is now, perhaps of a later incarnation. @throws NOT_FOUND
   */
  end(name: SessionName, end: SessionEnd): Promise<SessionRecord>;
  /**
   * Notes that an incarnation, ended or not, is deleted with all that the thread had. The thread begins no new one until
   * that is noted as done. Idempotent. @throws NOT_FOUND
   */
  delete(name: SessionName, at: string): Promise<SessionRecord>;
  /** Notes that nothing else is left of a thread whose session was deleted. @throws NOT_FOUND */
  emptied(name: SessionName, at: string): Promise<SessionRecord>;
}

/** Removes what the store holds of a thread. */
export interface SessionRemains {
  /**
   * Removes everything but the record of the session: first the keys of its messages, then runs and output, then what
   * was archived of its workflows, but for a stub each. May be repeated. @throws STORE_UNAVAILABLE
   */
  remove(name: SessionName): Promise<void>;
}

/** How a run ended, and in which incarnation of its thread. */
export interface RunRecord {
  readonly incarnation: number;
  readonly run: EndedRun;
}

/** Ends of the runs of a thread, of all its incarnations. */
export interface RunRecords {
  /** @returns undefined where the thread has no such run on record. */
  read(name: ThreadName, runId: string): Promise<RunRecord | undefined>;
  /** Writes the end of a run, once: the first one stays. @returns whether it was this one */
  write(name: SessionName, run: EndedRun): Promise<boolean>;
  /** The runs that were recorded last, the newest first, of all incarnations. `limit`: at most 100. */
  last(name: ThreadName, limit: number): Promise<readonly RunRecord[]>;
  /** SHA-256 (hex) of the ids of all runs on record, and the number of the last turn among those written last. */
  used(name: ThreadName): Promise<{ readonly ids: readonly string[]; readonly lastTurn: number }>;
}

/** What senders of runs need of the store. */
export interface SessionBooks {
  readonly sessions: SessionRecords;
  readonly runs: Pick<RunRecords, 'read' | 'last'>;
  readonly requests: RunRequestSeal;
  readonly remains: SessionRemains;
  /** @returns the image that a reference names now. @throws IMAGE_MISSING, SPEC_INVALID */
  resolveImage(reference: string): Promise<{ name: string; digest: string }>;
}
