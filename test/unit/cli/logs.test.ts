import { describe, expect, it } from 'vitest';
import type { LogPage } from '../../../contracts/api/log-page.ts';
import { isWanted, type LogEntry } from '../../../domain/logs/log-entry.ts';
import { at, type CliWorld, kiln } from '../../support/gateway/cli-fixtures.ts';

type Api = NonNullable<CliWorld['api']>;
const json = (text: string): unknown[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

describe('kiln workload logs', () => {
  const line = (n: number, level: LogEntry['level'], stage: LogEntry['stage']): LogEntry => ({
    timestamp: at(n),
    stage,
    level,
    message: `line ${n}`,
  });
  const LINES = [line(1, 'info', 'build'), line(2, 'warn', 'build'), line(3, 'error', 'running')];
  const pages: Readonly<Record<string, LogPage>> = {
    '': { entries: LINES.slice(0, 1), cursor: 'one', more: true },
    one: { entries: LINES.slice(1), cursor: 'two', more: false, incomplete: 'host dev-1 does not answer' },
  };
  const api: Api = {
    workloadLogs: async ({ query }) => {
      const page = pages[query?.after ?? ''];
      if (page === undefined) throw new Error(`no page after ${query?.after}`);
      return { ...page, entries: page.entries.filter((entry) => isWanted(entry, query ?? {})) };
    },
    async *streamWorkloadLogs(_id, filter = {}) {
      if (filter.after === 'two') yield { kind: 'log' as const, cursor: 'c', entry: line(4, 'warn', 'running') };
      else
        for (const entry of LINES.filter((one) => isWanted(one, filter)))
          yield { kind: 'log' as const, cursor: 'c', entry };
      yield { kind: 'end' as const, stage: 'stopped' as const };
    },
  };

  it('is every page, and says where lines may be missing', async () => {
    const { stdout, stderr, exitCode } = await kiln(['workload', 'logs', 'hello-1'], { api });
    expect(stdout.split('\n').map((text) => text.slice(-6))).toEqual(['line 1', 'line 2', 'line 3', '']);
    expect(stderr).toContain('host dev-1 does not answer');
    expect(exitCode).toBe(0);
  });

  it('is one document a line with --json, followed or not', async () => {
    for (const follow of [[], ['-f']]) {
      const { stdout } = await kiln(['workload', 'logs', 'hello-1', '--json', ...follow], { api });
      expect(json(stdout)).toEqual(LINES);
    }
  });

  it.each([
    [
      ['--level', 'warn'],
      [2, 3],
    ],
    [['--level', 'error'], [3]],
    [
      ['--stage', 'build'],
      [1, 2],
    ],
    [['--stage', 'build', '--level', 'warn', '-f'], [2]],
    [
      ['--tail', '2'],
      [2, 3],
    ],
    [['--tail', '1', '--stage', 'build'], [2]],
  ])('shows only what is asked for: %j', async (args, expected) => {
    const { stdout } = await kiln(['workload', 'logs', 'hello-1', '--json', ...args], { api });
    expect(json(stdout)).toEqual(expected.map((n) => LINES[n - 1]));
  });

  it('follows from the end of what it has shown, with --tail', async () => {
    const { stdout } = await kiln(['workload', 'logs', 'hello-1', '--json', '-f', '--tail', '1'], { api });
    expect(json(stdout)).toEqual([LINES[2], line(4, 'warn', 'running')]);
  });
});
