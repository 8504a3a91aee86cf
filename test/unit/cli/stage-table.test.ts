import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { stageRows } from '../../../cli/terminal/render-stage-table.ts';
import { LiveStageTable, renderStageTable } from '../../../cli/terminal/stage-table.ts';
import { columnsOf } from '../../../cli/terminal/terminal-text.ts';
import { at, viewAt } from '../../support/gateway/cli-fixtures.ts';

const NOW = Date.parse(at(20));
const PLAIN = { now: NOW, width: 80, color: false };
const RUNNING = [
  ['pending', 0],
  ['validate', 0.2],
  ['build', 0.5],
  ['deploy', 12.8],
  ['running', 15],
] as const;
const VM = { hostId: 'dev-1', epoch: 1, boot: 1, vmId: 'abc-1-1', port: 8081, url: 'http://127.0.0.1:8081' };

const statuses = (view: ReturnType<typeof viewAt>): string =>
  stageRows(view, NOW)
    .map(({ stage, status }) => `${stage} ${status}`)
    .join(', ');

describe('the rows of a stage table', () => {
  it('tell what is done, what goes on and what lies ahead', () => {
    expect(statuses(viewAt(RUNNING.slice(0, 3)))).toBe(
      'pending done, validate done, build current, deploy ahead, running ahead',
    );
  });

  it('tell where a workload failed and what it never reached', () => {
    const view = viewAt([...RUNNING.slice(0, 2), ['failed', 1]]);
    expect(statuses(view)).toBe('pending done, validate failed, build skipped, deploy skipped, running skipped');
  });

  it('tell a stop on the way from a stop of what ran', () => {
    expect(statuses(viewAt([...RUNNING.slice(0, 3), ['stopped', 1]]))).toContain('build ended');
    expect(statuses(viewAt([...RUNNING, ['stopped', 17]]))).toContain('running done');
  });

  it('have the time between two moves, and up to now in the stage that goes on', () => {
    expect(stageRows(viewAt(RUNNING), NOW).map(({ durationMs }) => durationMs)).toEqual([200, 300, 12_300, 2200, 5000]);
  });

  it('never count below zero where clocks differ', () => {
    expect(stageRows(viewAt([['pending', 50]]), NOW)[0]?.durationMs).toBe(0);
  });
});

describe('a drawn stage table', () => {
  it('shows a running workload and where it answers', () => {
    expect(renderStageTable(viewAt(RUNNING, { vm: VM }), PLAIN)).toEqual([
      'hello-1  services/hello',
      '  ✓ pending          0.2 s',
      '  ✓ validate         0.3 s',
      '  ✓ build           12.3 s',
      '  ✓ deploy           2.2 s',
      '  ● running          5.0 s',
      '→ http://127.0.0.1:8081',
    ]);
  });

  it('says why it waits and for how long', () => {
    const view = viewAt([['pending', 0]], { waiting: { reason: 'no host has 2 vCPUs free', since: at(8) } });
    expect(renderStageTable(view, PLAIN)[1]).toBe(
      '  ● pending         20.0 s  waiting for 12.0 s: no host has 2 vCPUs free',
    );
  });

  it('says that it leaves, before why it waits', () => {
    const view = viewAt(RUNNING, {
      leaving: { cause: 'stop: no longer needed', since: at(19) },
      waiting: { reason: 'host does not answer', since: at(19) },
    });
    expect(renderStageTable(view, PLAIN)[5]).toBe(
      '  ● running          5.0 s  leaving for 1.0 s: stop: no longer needed',
    );
  });

  it('says code and message where it failed, over several lines where they are long', () => {
    const failure = { code: 'MANIFEST_MISSING', message: `${'word '.repeat(20)}end`, stage: 'validate' } as const;
    const lines = renderStageTable(viewAt([...RUNNING.slice(0, 2), ['failed', 1]], { failure }), PLAIN);
    expect(lines[2]).toContain('  ✗ validate         0.8 s  MANIFEST_MISSING: word');
    expect(lines.slice(2, 6).join(' ').replace(/\s+/g, ' ')).toContain(`${'word '.repeat(20)}end`);
    expect(lines.at(-1)).toBe('  ✗ failed           1.0 s');
  });

  it('ends with the cause of a stop, what was not released, and notes', () => {
    const view = viewAt([...RUNNING, ['stopped', 17]], {
      unreleased: [{ name: 'abc-1-1', hostId: 'dev-1', message: 'host does not answer' }],
      notes: ['log shipped late'],
    });
    expect(renderStageTable(view, PLAIN).slice(6)).toEqual([
      '  ✓ stopped         17.0 s  stop: no longer needed',
      '! not released: abc-1-1 on dev-1: host does not answer',
      '! log shipped late',
    ]);
  });

  it('colours only where colours are wanted', () => {
    const colored = renderStageTable(viewAt(RUNNING), { ...PLAIN, color: true });
    expect(colored[1]).toContain('\u001b[32m✓\u001b[0m');
    expect(renderStageTable(viewAt(RUNNING), PLAIN).join('')).not.toContain('\u001b');
  });

  it('keeps every line within its width and free of control characters, whatever a workload says', () => {
    const text = fc.string({ unit: 'binary', maxLength: 300 });
    fc.assert(
      fc.property(text, text, fc.integer({ min: 40, max: 200 }), (reason, message, width) => {
        const waiting = viewAt([['pending', 0]], { waiting: { reason, since: at(1) }, notes: [message] });
        const failure = { code: 'BUILD_FAILED', message, stage: 'build' } as const;
        const failed = viewAt([...RUNNING.slice(0, 3), ['failed', 1]], { failure });
        for (const view of [waiting, failed]) {
          for (const line of renderStageTable(view, { now: NOW, width, color: false })) {
            expect(columnsOf(line)).toBeLessThanOrEqual(width);
            expect(line).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
          }
        }
      }),
    );
  });
});

class Screen {
  readonly isTTY: boolean;
  readonly columns = 80;
  readonly rows = 24;
  readonly writes: string[] = [];

  constructor(isTTY: boolean) {
    this.isTTY = isTTY;
  }

  write(text: string): void {
    this.writes.push(text);
  }
}

describe('a live table on a terminal', () => {
  const clock = { now: () => NOW };

  it('is drawn over itself', () => {
    const screen = new Screen(true);
    const table = new LiveStageTable(screen, clock);
    table.show(viewAt(RUNNING.slice(0, 1)));
    table.show(viewAt(RUNNING.slice(0, 2)));
    expect(screen.writes[0]).not.toContain('\u001b');
    expect(screen.writes[1]).toMatch(/^\u001b\[6A\r\u001b\[Jhello-1/);
    expect(screen.writes[1]?.endsWith('\n')).toBe(true);
  });

  it('writes nothing where nothing has changed', () => {
    const screen = new Screen(true);
    const table = new LiveStageTable(screen, clock);
    table.show(viewAt(RUNNING));
    table.show(viewAt(RUNNING));
    expect(screen.writes).toHaveLength(1);
  });

  it('is left standing at its end', () => {
    const screen = new Screen(true);
    const table = new LiveStageTable(screen, clock);
    table.show(viewAt(RUNNING));
    table.end();
    table.show(viewAt(RUNNING));
    expect(screen.writes[1]).toBe(screen.writes[0]);
  });
});

describe('a live table elsewhere', () => {
  const shown = (...views: ReturnType<typeof viewAt>[]): string[] => {
    const screen = new Screen(false);
    const table = new LiveStageTable(screen, { now: () => NOW });
    for (const view of views) table.show(view);
    table.end();
    return screen.writes.join('').trimEnd().split('\n');
  };

  it('is one line a stage, also of stages that no look has caught', () => {
    const first = viewAt(RUNNING.slice(0, 1));
    const last = viewAt(RUNNING, { vm: VM });
    expect(shown(first, first, last, last)).toEqual([
      `${at(0)} hello-1  pending  services/hello`,
      `${at(0.2)} hello-1  validate  (pending 0.2 s)`,
      `${at(0.5)} hello-1  build  (validate 0.3 s)`,
      `${at(12.8)} hello-1  deploy  (build 12.3 s)`,
      `${at(15)} hello-1  running  http://127.0.0.1:8081  (deploy 2.2 s)`,
    ]);
  });

  it('says each reason once', () => {
    const waiting = (reason: string) => viewAt([['pending', 0]], { waiting: { reason, since: at(3) } });
    const lines = shown(
      waiting('no host'),
      waiting('no host'),
      waiting('no room'),
      viewAt([['pending', 0]]),
      waiting('no room'),
    );
    expect(lines.slice(1)).toEqual([
      `${at(3)} hello-1  pending  waiting: no host`,
      `${at(3)} hello-1  pending  waiting: no room`,
      `${at(3)} hello-1  pending  waiting: no room`,
    ]);
  });

  it('says why it failed, and no sequence of a service reaches the terminal', () => {
    const failure = { code: 'BUILD_FAILED', message: 'exit 2\u001b[2J\u0007', stage: 'build' } as const;
    const lines = shown(viewAt([...RUNNING.slice(0, 3), ['failed', 4]], { failure }));
    expect(lines.at(-1)).toBe(`${at(4)} hello-1  failed  BUILD_FAILED: exit 2·  (build 3.5 s)`);
  });
});
