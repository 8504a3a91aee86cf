/** Runs one cell of the fault table on a Kiln and reports the outcome. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import type { WorkloadClient } from '../../client/temporal/workloads/workload-client.ts';
import { workloadWorkflowId } from '../../domain/names.ts';
import type { WorkloadPolicyOverrides } from '../../domain/policies.ts';
import { isFinal } from '../../domain/workload/stages.ts';
import type { WorkloadRequest, WorkloadState } from '../../domain/workload/workload.ts';
import { afterEachEvent, movesStage } from '../support/workers/after-each-event.ts';
import type { PortError } from '../support/workers/port-errors.ts';
import type { Caller, GatedCall, HeldCall, Moment } from '../support/workers/port-gates.ts';
import { FAULTS, type Fault, type Outcome, ROWS, type Row, TIMINGS } from './fault-table.ts';

export interface Cell {
  readonly id: string;
  readonly row: Row;
  readonly fault: Fault;
  readonly moment: Moment;
  readonly expected: Outcome;
}

export const CELLS: readonly Cell[] = ROWS.flatMap((row, n) =>
  FAULTS.flatMap((fault) =>
    row.moments.map((moment) => ({
      id: `cell-${n}-${fault}-${moment}`,
      row,
      fault,
      moment,
      expected: row.outcomes[fault],
    })),
  ),
);

/** A Kiln as a cell needs it, with workers in this process or in others. */
export interface FaultyKiln {
  readonly temporal: Client;
  /** @returns a client whose workloads have these policies */
  workloadsWith(policies: WorkloadPolicyOverrides): WorkloadClient;
  hold(role: Row['role'], port: string, moment: Moment, by: Caller): Promise<Omit<HeldCall, 'finished'>>;
  fail(role: Row['role'], port: string, moment: Moment, error: PortError, by: Caller): Promise<GatedCall>;
}

export interface CellReport {
  readonly outcome: Outcome;
  /** How the workload ended; if it was running, after it was stopped. */
  readonly end: WorkloadState;
}

/** A workload that has not reached its expected state after this time is stuck. */
const STUCK_AFTER_MS = 60_000;
/** Also the limit for a health check that hangs, so it must be enough for a service on a busy machine. */
const START_PERIOD_MS = 12_000;

export class CellRun {
  private readonly cell: Cell;
  private readonly kiln: FaultyKiln;
  private readonly workloads: WorkloadClient;
  private held: Omit<HeldCall, 'finished'> | undefined;

  constructor(kiln: FaultyKiln, cell: Cell) {
    this.kiln = kiln;
    this.cell = cell;
    const { fault, row } = cell;
    const isGivenUp = fault === 'hangs' || (fault === 'killed' && row.silent);
    this.workloads = kiln.workloadsWith(isGivenUp ? row.timings : TIMINGS);
  }

  /** Creates the workload. Resolves when it is in the middle of its row's activity and the fault there has begun. */
  async begin(): Promise<void> {
    const stuck = delay(STUCK_AFTER_MS, undefined, { ref: false }).then(() => {
      throw new Error(`${this.cell.id} has not come to ${this.cell.row.activity}`);
    });
    await Promise.race([this.toThePoint(), stuck]);
  }

  private async toThePoint(): Promise<void> {
    const { id, row } = this.cell;
    if (row.way !== 'stop') {
      const { reached } = await this.arm();
      await this.workloads.create(this.request(), id);
      if (row.way === 'vm-death') await this.killVm();
      return await reached;
    }
    await this.workloads.create(this.request(), id);
    await this.until((state) => state.stage === 'running', movesStage);
    const { reached } = await this.arm();
    await this.workloads.stop(id, { waitMs: 0 });
    return reached;
  }

  /** Cancels, if that is the fault. @returns what happened to the workload, which has then ended */
  async finish(): Promise<CellReport> {
    const { id, fault } = this.cell;
    if (fault === 'cancel') {
      await this.kiln.temporal.workflow.getHandle(`workload/${id}`).cancel();
      await this.until((state) => state.leaving !== undefined || isFinal(state.stage));
      this.held?.release();
    }
    const ofInterest = this.mustBeSeen() ? undefined : movesStage;
    const outcome = outcomeOf(await this.until((state) => this.isSettled(state), ofInterest));
    // A call that was given up returns late and may have its effect only now.
    this.held?.release();
    const { snapshot } = await this.workloads.stop(id, { waitMs: 60_000 });
    return { outcome, end: snapshot.state };
  }

  /** Sets the gates. Resolves once they are set. @returns the call to wait for */
  private async arm(): Promise<GatedCall> {
    const { id: workloadId, row, fault, moment } = this.cell;
    if (row.way === 'suspicion') {
      await this.kiln.fail('host', 'vms.provision', 'before', 'worker-gone', {
        workloadId,
        activity: 'provisionRootfs',
      });
    }
    if (row.way === 'bad-boot') {
      await this.kiln.fail('host', 'vms.boot', 'before', 'bad-boot', { workloadId, activity: 'bootVm' });
    }
    const by = { workloadId, activity: row.activity };
    if (fault === 'fails' || fault === 'store-away') {
      return this.kiln.fail(row.role, row.port, moment, fault, by);
    }
    this.held = await this.kiln.hold(row.role, row.port, moment, by);
    return this.held;
  }

  private request(): WorkloadRequest {
    const { id, row, fault } = this.cell;
    const env = row.service === 'waits-in-build' ? { BUILD_MS: '0', BUILD_FOR: id } : {};
    const hangs = row.activity === 'checkHealth' && fault === 'hangs';
    return { servicePath: row.service, env, ...(hangs ? { health: { startPeriodMs: START_PERIOD_MS } } : {}) };
  }

  private async killVm(): Promise<void> {
    const { vm } = await this.until((state) => state.stage === 'running', movesStage);
    if (vm?.pid !== undefined) process.kill(vm.pid, 'SIGKILL');
  }

  private isSettled({ stage, leaving, notes }: WorkloadState): boolean {
    const { way } = this.cell.row;
    if (isFinal(stage)) return true;
    if (stage !== 'running' || leaving !== undefined || way === 'stop' || way === 'vm-death') return false;
    return !this.mustBeSeen() || notes.some((note) => note.includes('took longer'));
  }

  /** The workload was running before the fault too, so its stage alone proves nothing. */
  private mustBeSeen(): boolean {
    return this.cell.row.activity === 'superviseVm' && this.cell.fault === 'hangs';
  }

  private async until(
    holds: (state: WorkloadState) => boolean,
    ofInterest?: Parameters<typeof afterEachEvent>[3],
  ): Promise<WorkloadState> {
    const { id } = this.cell;
    const deadline = Date.now() + STUCK_AFTER_MS;
    const look = async () => {
      const { state } = await this.workloads.get(id);
      if (holds(state)) return state;
      if (isFinal(state.stage)) throw new Error(`${id} has ended too soon: ${outcomeOf(state)}`);
      if (Date.now() > deadline) throw new Error(`${id} is stuck: ${JSON.stringify(state)}`);
      return undefined;
    };
    return afterEachEvent(this.kiln.temporal, workloadWorkflowId(id), look, ofInterest);
  }
}

function outcomeOf({ stage, failure }: WorkloadState): Outcome {
  if (stage === 'running') return 'runs';
  return failure === undefined ? stage : `${failure.stage} ${failure.code}`;
}

/** Begins the work for all items, `atOnce` at a time. @returns what comes of each */
export function begun<T, R>(
  items: readonly T[],
  atOnce: number,
  work: (item: T) => Promise<R>,
): ReadonlyMap<T, Promise<R>> {
  const all = items.map((item) => ({ item, result: Promise.withResolvers<R>() }));
  for (const { result } of all) result.promise.catch(() => undefined);
  void pooled(all, atOnce, async ({ item, result }) => {
    await work(item).then(result.resolve, result.reject);
  });
  return new Map(all.map(({ item, result }) => [item, result.promise]));
}

/** Does the work for all items, `atOnce` at a time. */
export async function pooled<T>(items: readonly T[], atOnce: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
