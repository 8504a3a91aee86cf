/** How sessions and their runs went, taken from what a control worker writes down of them. */
import { Counter, Histogram, type Registry } from 'prom-client';
import type { SessionBookPorts } from '../../activities/session/session-books.ts';
import type { EndedRun } from '../../domain/session/run-book.ts';
import type { SessionEnd } from '../../domain/session/session-record.ts';

const WAIT_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800];
const RUN_SECONDS = [0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 3600, 14_400, 86_400];

export interface SessionMetrics {
  /** A run has ended, and its end is on record now. */
  noteRun(run: EndedRun): void;
  noteEnded(as: SessionEnd['as']): void;
}

/** @param registry takes the metrics; docs/metrics.md describes each of them */
export function createSessionMetrics(registry: Registry): SessionMetrics {
  const registers = [registry];
  const runs = new Counter({
    name: 'kiln_session_runs_total',
    help: 'Runs that ended: outcome, code of the failure.',
    labelNames: ['outcome', 'code'],
    registers,
  });
  const waits = new Histogram({
    name: 'kiln_session_run_wait_seconds',
    help: 'From the acceptance of a run to its start: those before it, and the VM.',
    buckets: WAIT_SECONDS,
    registers,
  });
  const lasted = new Histogram({
    name: 'kiln_session_run_seconds',
    help: 'From the start of a run to its end.',
    labelNames: ['outcome'],
    buckets: RUN_SECONDS,
    registers,
  });
  const lost = new Counter({
    name: 'kiln_session_workspaces_lost_total',
    help: 'Workspaces that went with their VM, as the next run was told.',
    registers,
  });
  const ends = new Counter({
    name: 'kiln_session_ends_total',
    help: 'Sessions that ended: closed or expired.',
    labelNames: ['as'],
    registers,
  });
  return {
    noteRun(run) {
      const { outcome, acceptedAt, startedAt, endedAt } = run;
      runs.inc({ outcome: outcome.as, code: outcome.as === 'failed' ? outcome.failure : '' });
      if (run.lost !== undefined) lost.inc();
      if (startedAt === undefined) return;
      waits.observe(secondsBetween(acceptedAt, startedAt));
      lasted.observe({ outcome: outcome.as }, secondsBetween(startedAt, endedAt));
    },
    noteEnded: (as) => ends.inc({ as }),
  };
}

/** @returns books that report each end of a run or session to the metrics once it is written. */
export function measuredSessionBooks(
  { sessions, runs, heads }: SessionBookPorts,
  metrics: SessionMetrics,
): SessionBookPorts {
  return {
    heads,
    sessions: {
      read: (name) => sessions.read(name),
      async end(name, end) {
        const record = await sessions.end(name, end);
        metrics.noteEnded(end.as);
        return record;
      },
    },
    runs: {
      ...runs,
      async write(name, run) {
        const isNew = await runs.write(name, run);
        if (isNew) metrics.noteRun(run);
        return isNew;
      },
    },
  };
}

function secondsBetween(from: string, to: string): number {
  return Math.max(0, Date.parse(to) - Date.parse(from)) / 1000;
}
