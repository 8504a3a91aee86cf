/** The fault table on one Kiln whose workers are in this process: many cells at a time, beside a running workload. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { HostActivityPorts } from '../../activities/host-activities.ts';
import { createWorkloadClient } from '../../client/temporal/workloads/workload-client.ts';
import type { WorkloadState } from '../../domain/workload/workload.ts';
import { createWorkloadDocuments } from '../../store/workloads/workload-documents.ts';
import { callingActivity } from '../support/workers/calling-activity.ts';
import { type Harness, startHarness } from '../support/workers/kiln-harness.ts';
import { portError } from '../support/workers/port-errors.ts';
import { PortGates } from '../support/workers/port-gates.ts';
import { CELLS, type Cell, type CellReport, CellRun, type FaultyKiln, pooled } from './fault-cells.ts';
import { FAULTS, ROWS, SENSELESS } from './fault-table.ts';

/**
 * Number of cells at a time: some wait for a time limit to pass, others work all the time. More of them would only slow
 * each one down, and the time limits of the working cells assume a machine that is not overloaded.
 */
const AT_ONCE = { waiting: 8, working: 4 };
const DONE_HERE = CELLS.filter(({ fault }) => fault !== 'killed');

/** Every undo is done twice, at the same time. */
function undoneTwice(ports: HostActivityPorts): HostActivityPorts {
  return {
    ...ports,
    vms: doubled(ports.vms, 'release'),
    ledger: doubled(ports.ledger, 'release'),
    services: doubled(ports.services, 'stop'),
  };
}

function doubled<T extends object>(target: T, name: keyof T): T {
  return new Proxy(target, {
    get(_, method) {
      const value: unknown = Reflect.get(target, method, target);
      if (typeof value !== 'function') return value;
      const call = (args: unknown[]): unknown => Reflect.apply(value, target, args);
      if (method !== name) return (...args: unknown[]) => call(args);
      return async (...args: unknown[]) => (await Promise.all([call(args), call(args)]))[0];
    },
  });
}

describe('faults in the middle of activities', () => {
  const gates = new PortGates(callingActivity);
  const reports = new Map<Cell, CellReport | Error>();
  let kiln: Harness;
  let neighbour: WorkloadState;

  beforeAll(async () => {
    kiln = await startHarness({
      hostPorts: (ports) => gates.over(undoneTwice(ports)),
      controlPorts: (ports) => gates.over(ports),
      capacity: { vcpus: 512, memMib: 1_000_000 },
    });
    const archive = createWorkloadDocuments(kiln.store);
    const faulty: FaultyKiln = {
      temporal: kiln.temporal,
      workloadsWith: (policies) => createWorkloadClient({ client: kiln.temporal, archive, policies }),
      hold: async (_role, port, moment, by) => gates.hold(port, moment, by),
      fail: async (_role, port, moment, error, by) =>
        gates.failOnce(port, moment, () => portError(error, `${moment} ${port}`), by),
    };
    await kiln.workloads.create({ servicePath: 'plain' }, 'neighbour');
    neighbour = await kiln.untilStage('neighbour', 'running');
    const runCell = async (cell: Cell) => {
      const run = new CellRun(faulty, cell);
      const report = run.begin().then(() => run.finish());
      reports.set(cell, await report.catch((error: unknown) => new Error(String(error), { cause: error })));
    };
    const waits = ({ fault }: Cell) => fault === 'hangs';
    await Promise.all([
      pooled(DONE_HERE.filter(waits), AT_ONCE.waiting, runCell),
      pooled(
        DONE_HERE.filter((cell) => !waits(cell)),
        AT_ONCE.working,
        runCell,
      ),
    ]);
    console.log(tableOf(reports));
  }, 300_000);
  afterAll(() => kiln.close());

  it.each(DONE_HERE.map((cell) => [cell.row.activity, cell.row.port, cell.fault, cell.moment, cell] as const))(
    '%s: %s %s, %s its effect',
    (_activity, _port, _fault, _moment, cell) => {
      const report = reports.get(cell);
      if (report instanceof Error) throw report;
      expect(report?.outcome).toBe(cell.expected);
      expect(report?.end).toMatchObject({ unreleased: [] });
    },
  );

  it('disturbed no neighbour', async () => {
    const { state } = await kiln.workloads.get('neighbour');
    expect(state).toMatchObject({ stage: 'running', vm: neighbour.vm });
    expect((await fetch(neighbour.vm?.url ?? '')).status).toBe(200);
  });

  it('left nothing on the host, and lawful histories that replay', async () => {
    await kiln.workloads.stop('neighbour', { waitMs: 20_000 });
    // Calls that came back late may have left things: the sweep removes VMs, and reservations expire.
    while ((await kiln.left()).length > 0) await delay(250);
    expect((await kiln.judge()).length).toBe(DONE_HERE.length + 1);
  });
});

function tableOf(reports: ReadonlyMap<Cell, CellReport | Error>): string {
  const lines = ROWS.flatMap((row) =>
    row.moments.map((moment) => {
      const cells = FAULTS.map((fault) => {
        const cell = CELLS.find((one) => one.row === row && one.fault === fault && one.moment === moment);
        const report = cell && reports.get(cell);
        const text = report instanceof Error ? report.message : report?.outcome;
        return text === undefined
          ? ''
          : `${fault}: ${text}${text === cell?.expected ? '' : ` (expected ${cell?.expected})`}`;
      });
      const way = row.way === undefined ? '' : ` (${row.way})`;
      return `${row.activity}${way} ${moment} ${row.port}  ${cells.filter((text) => text !== '').join(' · ')}`;
    }),
  );
  const senseless = SENSELESS.map(({ activity, fault, why }) => `no sense: ${activity} × ${fault}: ${why}`);
  return [...lines, ...senseless].join('\n');
}
