/** The fault table's column of killed workers: both die while there are workloads in the middle of every activity. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { WorkloadState } from '../../domain/workload/workload.ts';
import { runServers } from '../support/servers/run-servers.ts';
import { quietRuntime } from '../support/workers/kiln-harness.ts';
import { ProcessStack } from '../support/workers/process-stack.ts';
import { CELLS, type Cell, type CellReport, CellRun, type FaultyKiln, pooled } from './fault-cells.ts';

const AT_ONCE = 16;
const KILLED = CELLS.filter(({ fault }) => fault === 'killed');

describe('both workers killed at once', () => {
  const reports = new Map<Cell, CellReport | Error>();
  let stack: ProcessStack;
  let neighbour: WorkloadState;

  beforeAll(async () => {
    quietRuntime();
    stack = await ProcessStack.start(runServers());
    const faulty: FaultyKiln = {
      temporal: stack.temporal,
      workloadsWith: (policies) => stack.clientWith(policies),
      // The held call dies with its worker, so there is nothing to release.
      hold: async (role, port, moment, by) => ({
        ...(await stack.worker(role).hold(port, moment, by)),
        release: () => undefined,
      }),
      fail: (role, port, moment, error, by) => stack.worker(role).fail(port, moment, error, by),
    };
    neighbour = await runningNeighbour(stack);
    const runs = KILLED.map((cell) => ({ cell, run: new CellRun(faulty, cell) }));
    const failing = (cell: Cell) => (error: unknown) =>
      void reports.set(cell, new Error(String(error), { cause: error }));
    // Calls that are given up even if their worker lives are started last.
    const isGivenUp = ({ row }: Cell) => row.silent === true || row.activity === 'startService';
    for (const last of [false, true]) {
      const some = runs.filter(({ cell }) => isGivenUp(cell) === last);
      await pooled(some, AT_ONCE, ({ cell, run }) => run.begin().catch(failing(cell)));
    }
    await Promise.all([stack.worker('host').kill(), stack.worker('control').kill()]);
    await Promise.all([stack.startWorker('host'), stack.startWorker('control')]);
    await pooled(runs, AT_ONCE, async ({ cell, run }) => {
      if (reports.has(cell)) return;
      await run.finish().then((report) => void reports.set(cell, report), failing(cell));
    });
  }, 300_000);
  afterAll(() => stack.close());

  it.each(KILLED.map((cell) => [cell.row.activity, cell.moment, cell.row.port, cell] as const))(
    'in %s, %s %s',
    (_activity, _moment, _port, cell) => {
      const report = reports.get(cell);
      if (report instanceof Error) throw report;
      expect(report?.outcome).toBe(cell.expected);
      expect(report?.end).toMatchObject({ unreleased: [] });
    },
  );

  it('disturbed no neighbour: the same VM answers at the same port', async () => {
    const { state } = await stack.workloads.get('neighbour');
    expect(state).toMatchObject({ stage: 'running', vm: neighbour.vm });
    expect((await fetch(neighbour.vm?.url ?? '')).status).toBe(200);
  });

  it('left nothing on the host, and lawful histories that replay', async () => {
    await stack.workloads.stop('neighbour', { waitMs: 20_000 });
    while ((await stack.left()).length > 0) await delay(250);
    expect((await stack.judge()).length).toBe(KILLED.length + 1);
  });
});

async function runningNeighbour({ workloads }: ProcessStack): Promise<WorkloadState> {
  await workloads.create({ servicePath: 'plain' }, 'neighbour');
  for (;;) {
    const { state } = await workloads.get('neighbour');
    if (state.stage === 'running') return state;
    await delay(50);
  }
}
