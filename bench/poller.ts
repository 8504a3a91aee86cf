/**
 * The rival of `submit → first activity`: jobs are rows of a table, and a daemon looks for new ones at a fixed interval,
 * as many agent platforms do. It is given every advantage: no network, an index, one SQLite file on a local disk.
 */
import { DatabaseSync } from 'node:sqlite';

export interface Poller {
  /** Inserts a job. @returns when the daemon has picked it up, the time in between in ms. */
  submit(): Promise<number>;
  /** Stops the daemon and closes the table. Jobs that wait are rejected. */
  close(): void;
}

interface WaitingJob {
  readonly submittedAt: number;
  readonly picked: (waitedMs: number) => void;
  readonly dropped: (error: Error) => void;
}

/** Starts a daemon that looks into the table at `databasePath` (made if absent) every `intervalMs`. */
export function startPoller(databasePath: string, intervalMs: number): Poller {
  const database = new DatabaseSync(databasePath);
  database.exec('PRAGMA journal_mode = WAL');
  database.exec('CREATE TABLE IF NOT EXISTS job (id INTEGER PRIMARY KEY, state TEXT NOT NULL)');
  database.exec('CREATE INDEX IF NOT EXISTS job_state ON job (state)');
  const insert = database.prepare("INSERT INTO job (state) VALUES ('new')");
  const claim = database.prepare("UPDATE job SET state = 'picked' WHERE state = 'new' RETURNING id");
  const waiting = new Map<number, WaitingJob>();
  const timer = setInterval(() => {
    for (const { id } of claim.all()) {
      const job = waiting.get(Number(id));
      waiting.delete(Number(id));
      job?.picked(performance.now() - job.submittedAt);
    }
  }, intervalMs);
  return {
    submit: () =>
      new Promise((picked, dropped) => {
        const submittedAt = performance.now();
        const { lastInsertRowid } = insert.run();
        waiting.set(Number(lastInsertRowid), { submittedAt, picked, dropped });
      }),
    close: () => {
      clearInterval(timer);
      database.close();
      for (const job of waiting.values()) job.dropped(new Error('the poller was closed'));
      waiting.clear();
    },
  };
}
