import { describe, expect, it } from 'vitest';
import { followWorkload, type WorkloadEvent } from '../../client/temporal/follow-workload.ts';
import type { LogWriter, WorkloadLogs } from '../../client/temporal/workload-logs.ts';
import type { WorkloadSnapshot } from '../../client/temporal/workloads/workload-client.ts';
import { KilnError } from '../../domain/failures.ts';
import type { NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import type { Stage } from '../../domain/workload/stages.ts';

const at = (second: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, second)).toISOString();
const STAGES: readonly Stage[] = ['pending', 'validate', 'build', 'deploy', 'running', 'stopped'];

/** A workload after `count` moves, one every ten seconds. */
function afterMoves(count: number, more: Partial<WorkloadSnapshot> = {}): WorkloadSnapshot {
  const moves = STAGES.slice(1, count + 1).map((to, index) => {
    return { seq: index + 1, at: at((index + 1) * 10), from: STAGES[index] ?? 'pending', to, cause: 'test' };
  });
  const state = {
    workloadId: 'w',
    servicePath: 's',
    stage: STAGES[count] ?? 'pending',
    notes: [],
    unreleased: [],
    moves,
    createdAt: at(0),
    updatedAt: at(count * 10),
  };
  return { state, origin: 'workflow', ...more };
}
const OVER = afterMoves(5);

const line = (writer: string, n: number, second: number): NumberedLogEntry => {
  return { timestamp: at(second), stage: 'running', message: `${writer} ${n}`, level: 'info', epoch: 0, writer, n };
};

function logsOf(lines: readonly NumberedLogEntry[]): WorkloadLogs {
  const writers = [...new Set(lines.map(({ writer }) => writer))];
  const read = async (of: LogWriter, { after: n, limit }: { after: number; limit: number }) =>
    lines.filter((entry) => entry.writer === of.writer && entry.n > n).slice(0, limit);
  return { writers: async () => writers.map((writer) => ({ workloadId: 'w', epoch: 0, writer })), read };
}

/** Gives the answers in order and then repeats the last one; throws an answer that is an error. */
function answering(...answers: (WorkloadSnapshot | KilnError)[]) {
  return {
    get: async () => {
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      if (answer === undefined || answer instanceof KilnError) throw answer;
      return answer;
    },
  };
}

const said = (event: WorkloadEvent) =>
  event.kind === 'end' ? 'end' : event.kind === 'log' ? event.entry.message : `→ ${event.move.to}`;

async function all(events: AsyncGenerator<WorkloadEvent>): Promise<WorkloadEvent[]> {
  const seen: WorkloadEvent[] = [];
  for await (const event of events) seen.push(event);
  return seen;
}

const MERGED = ['→ validate', 'h1 0', '→ build', 'control 0', '→ deploy', '→ running', 'h1 1', '→ stopped', 'end'];
const LINES = [line('h1', 0, 15), line('h1', 1, 45), line('control', 0, 25)];

describe('following a workload', () => {
  it('gives moves and lines in one order, each once, and ends with the last state', async () => {
    const seen = await all(followWorkload(answering(afterMoves(2), OVER), logsOf(LINES), 'w', { pollMs: 0 }));
    expect(seen.map(said).sort()).toEqual([...MERGED].sort());
    expect(seen.at(-1)).toEqual({ kind: 'end', snapshot: OVER });
    expect((await all(followWorkload(answering(OVER), logsOf(LINES), 'w'))).map(said)).toEqual(MERGED);
  });

  it('goes on behind any event of its own', async () => {
    const seen = await all(followWorkload(answering(OVER), logsOf(LINES), 'w'));
    for (const [index, event] of seen.entries()) {
      if (event.kind === 'end') continue;
      const rest = await all(followWorkload(answering(OVER), logsOf(LINES), 'w', { after: event.cursor }));
      expect(rest.map(said)).toEqual(MERGED.slice(index + 1));
    }
  });

  it('waits for the last lines of a workflow that is still open', async () => {
    const late: NumberedLogEntry[] = [];
    const answers = answering({ ...OVER, isOpen: true }, OVER);
    const get = async () => {
      const snapshot = await answers.get();
      if (snapshot.isOpen !== true) late.push(line('h1', 0, 50));
      return snapshot;
    };
    const logs: WorkloadLogs = { writers: () => logsOf(late).writers('w'), read: (...of) => logsOf(late).read(...of) };
    expect((await all(followWorkload({ get }, logs, 'w', { pollMs: 0 }))).map(said).slice(-2)).toEqual(['h1 0', 'end']);
  });

  it('reads on where a writer has more than is read at once', async () => {
    const many = Array.from({ length: 2_500 }, (_, n) => line('h1', n, 45));
    const seen = await all(followWorkload(answering(OVER), logsOf(many), 'w'));
    expect(seen.filter(({ kind }) => kind === 'log')).toHaveLength(2_500);
  });

  it('waits out an outage, but not for ever, and not for what no waiting mends', async () => {
    const away = new KilnError('TEMPORAL_UNAVAILABLE', 'away');
    const calm = await all(followWorkload(answering(away, away, OVER), logsOf([]), 'w', { pollMs: 0 }));
    expect(calm.at(-1)?.kind).toBe('end');
    const given = { pollMs: 0, giveUpAfterMs: 0 };
    await expect(all(followWorkload(answering(away), logsOf([]), 'w', given))).rejects.toBe(away);
    const none = new KilnError('NOT_FOUND', 'none');
    await expect(all(followWorkload(answering(none), logsOf([]), 'w'))).rejects.toBe(none);
    const bad = followWorkload(answering(OVER), logsOf([]), 'w', { after: 'bad' });
    await expect(all(bad)).rejects.toMatchObject({ code: 'SPEC_INVALID' });
  });

  it('ends without an error when its signal is aborted', async () => {
    const ending = new AbortController();
    const events = followWorkload(answering(afterMoves(4)), logsOf([]), 'w', { signal: ending.signal });
    const seen: string[] = [];
    for await (const event of events) {
      seen.push(said(event));
      if (seen.length === 4) ending.abort();
    }
    expect(seen.at(-1)).toBe('→ running');
  });
});
