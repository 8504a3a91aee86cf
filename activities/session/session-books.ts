import { defined } from '../../domain/defined.ts';
import { KnownRunIds } from '../../domain/session/known-run-ids.ts';
import type { SessionHeads } from '../../ports/saves.ts';
import type { RunRecords, SessionRecords } from '../../ports/session-books.ts';
import { short } from '../activity-frame.ts';
import type { SessionBookActivities } from './session-types.ts';

export interface SessionBookPorts {
  readonly sessions: Pick<SessionRecords, 'read' | 'end'>;
  readonly runs: RunRecords;
  readonly heads: SessionHeads;
}

/** Activities about what is on record of sessions. */
export function createSessionBooks({ sessions, runs, heads }: SessionBookPorts): SessionBookActivities {
  return {
    openSession: ({ name }) =>
      short(async () => {
        const record = await sessions.read(name);
        if (record === undefined || record.incarnation !== name.incarnation) return { state: 'ended' };
        if (record.end !== undefined) return { state: 'ended', end: record.end };
        const known = new KnownRunIds();
        const [used, head] = await Promise.all([runs.used(name), heads.read(name)]);
        for (const idSha256 of used.ids) known.add(idSha256);
        const turn = Math.max(used.lastTurn, head?.mark?.turn ?? 0);
        return { state: 'open', settings: record.settings, knownRunIds: known.carried(), turn, ...defined({ head }) };
      }),
    findRun: ({ name, runId }) => short(async () => (await runs.read(name, runId))?.run ?? null),
    recordRuns: ({ name, runs: ended }) =>
      short(async () => {
        for (const run of ended) await runs.write(name, run);
      }),
    endSession: ({ name, end }) => short(async () => void (await sessions.end(name, end))),
  };
}
