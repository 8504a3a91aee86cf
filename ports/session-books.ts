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
  /** Writes the end of a run, once: the first one stays. */
  write(name: SessionName, run: EndedRun): Promise<void>;
  /** SHA-256 (hex) of the ids of all runs on record, and the number of the last turn among those written last. */
  used(name: ThreadName): Promise<{ readonly ids: readonly string[]; readonly lastTurn: number }>;
}

/** What senders of runs need of the store. */
export interface SessionBooks {
  readonly sessions: SessionRecords;
  readonly runs: Pick<RunRecords, 'read'>;
  readonly requests: RunRequestSeal;
  /** @returns the image that a reference names now. @throws IMAGE_MISSING, SPEC_INVALID */
  resolveImage(reference: string): Promise<{ name: string; digest: string }>;
}
