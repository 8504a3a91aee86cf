/** The fault table of sessions on one Kiln whose workers are in this process, many cells at a time. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EndedRun, RunOutcome } from '../../domain/session/run-book.ts';
import { callingActivity } from '../support/workers/calling-activity.ts';
import { throughOutages } from '../support/workers/dev-stack.ts';
import { type Harness, startHarness } from '../support/workers/kiln-harness.ts';
import { portError } from '../support/workers/port-errors.ts';
import { type GatedCall, type HeldCall, type Moment, PortGates } from '../support/workers/port-gates.ts';
import {
  closeAll,
  ended,
  openGate,
  outputsBelow,
  ran,
  threadNamed,
  untilRun,
  untilTier,
} from '../support/workers/session-steps.ts';
import { begun } from './fault-cells.ts';
import {
  POLICIES,
  RUN_MS,
  SENSELESS,
  SESSION_FAULTS,
  SESSION_ROWS,
  type SessionFault,
  type SessionRow,
} from './session-fault-table.ts';

interface Cell {
  readonly row: SessionRow;
  readonly fault: SessionFault;
  readonly moment: Moment;
  readonly thread: string;
}

const CELLS: readonly Cell[] = SESSION_ROWS.flatMap((row, n) =>
  SESSION_FAULTS.flatMap((fault) =>
    row.moments.map((moment) => ({ row, fault, moment, thread: `cell-${n}-${fault}-${moment}` })),
  ),
);
/** Those that hang wait for a time limit; more of the others would only slow each one down. */
const AT_ONCE = { waiting: 12, working: 4 };

/** A session that has not come to the end of its cell after this time is stuck. */
const STUCK_AFTER_MS = 60_000;

interface Report {
  readonly outcome: string;
  /** Before the fault; absent where the session had none. */
  readonly before?: EndedRun;
  readonly after: EndedRun;
}

describe('faults in the middle of what a session does', () => {
  const gates = new PortGates(callingActivity);
  let reports: ReadonlyMap<Cell, Promise<Report>> = new Map();
  let kiln: Harness;

  beforeAll(async () => {
    kiln = await startHarness({
      hostPorts: (ports) => gates.over(ports),
      controlPorts: (ports) => gates.over(ports),
      capacity: { vcpus: 512, memMib: 1_000_000 },
    });
    const runCell = (cell: Cell) => reportOf(kiln, gates, cell);
    const hangs = ({ fault }: Cell) => fault === 'hangs';
    const others = CELLS.filter((cell) => !hangs(cell));
    // Each test waits for its own cell: how long all of them take together depends on what else the machine does.
    reports = new Map([
      ...begun(CELLS.filter(hangs), AT_ONCE.waiting, runCell),
      ...begun(others, AT_ONCE.working, runCell),
    ]);
  });
  afterAll(() => kiln.close());

  it.each(CELLS.map((cell) => [cell.row.activity, cell.fault, cell.moment, cell.row.port, cell] as const))(
    'in %s, %s %s %s',
    async (_activity, _fault, _moment, _port, cell) => {
      const report = await reports.get(cell);
      expect(report?.outcome).toBe(cell.row.outcomes[cell.fault]);
      // The next run works, in the same VM, with the files of the first one; nothing is said to be lost.
      expect(report?.after).toMatchObject({ outcome: { as: 'finished', code: 0 } });
      expect(report?.after).not.toHaveProperty('lost');
      if (report?.before !== undefined) expect(report.after.vm).toEqual(report.before.vm);
    },
  );

  it('left nothing on the host, and lawful histories that replay', async () => {
    console.log(await tableOf(reports));
    await closeAll(kiln.sessions);
    while ((await kiln.left()).length > 0) await delay(100);
    await kiln.judge();
  });
});

async function reportOf(kiln: Harness, gates: PortGates, cell: Cell): Promise<Report> {
  const steps: string[] = [];
  const stuck = delay(STUCK_AFTER_MS, undefined, { ref: false }).then(() => {
    throw new Error(`it is stuck after: ${steps.join(', ')}`);
  });
  return Promise.race([stepsOf(kiln, gates, cell, (step) => steps.push(step)), stuck]);
}

async function stepsOf(kiln: Harness, gates: PortGates, cell: Cell, did: (step: string) => void): Promise<Report> {
  const { thread, row, fault } = cell;
  const name = threadNamed(thread);
  const sessions = kiln.sessionsWith(POLICIES);
  const counting = (then: string) => ['sh', '-c', `echo 'started ${thread}.'; ${then}`];
  const starts = async () => (await outputsBelow(kiln.stateDir)).split(`started ${thread}.`).length - 1;
  const began = row.way !== 'begins';
  const before = began ? await ran(sessions, name, 'before', ['sh', '-c', 'echo kept > note']) : undefined;
  if (began) await untilTier(sessions, name, 'warm');
  const timeoutMs = fault === 'hangs' && row.activity === 'runTurn' ? RUN_MS : undefined;
  const send = (then: string) =>
    throughOutages(() =>
      sessions.send(name, { id: 'one', command: counting(then), ...(timeoutMs === undefined ? {} : { timeoutMs }) }),
    );
  let call: GatedCall | HeldCall;
  if (row.way === 'cancels') {
    await send('sleep 1000');
    await untilRun(sessions, name, 'one', 'running');
    while ((await starts()) < 1) await delay(20);
    call = arm(gates, cell);
    await sessions.cancel(name, 'one');
  } else {
    call = arm(gates, cell);
    await send('true');
  }
  await call.reached;
  did('the fault');
  const one = await ended(sessions, name, 'one');
  const outcome = `${inWords(one.outcome)}, ${await starts()} start`;
  did(outcome);
  if (row.way === 'rests') await untilTier(sessions, name, 'warm');
  // A call that was given up comes to its effect in the middle of the next run, when nobody waits for it any more.
  const check = began ? 'grep -q kept note' : 'true';
  const command = counting(`until [ -e /tmp/open ]; do sleep 0.02; done; ${check}`);
  await throughOutages(() => sessions.send(name, { id: 'after', command }));
  const startsOfOne = Number(outcome.match(/(\d) start/)?.[1]);
  while ((await starts()) === startsOfOne) await delay(20);
  did('the next run has begun');
  if ('release' in call) {
    call.release();
    await call.finished;
    did('the late call has finished');
  }
  const next = await untilRun(sessions, name, 'after', 'running');
  if (next.state === 'running') await openGate(kiln.stateDir, next.run.vm.vmId, 'open');
  const after = await ended(sessions, name, 'after');
  return { outcome, after, ...(before === undefined ? {} : { before }) };
}

function arm(gates: PortGates, { thread, row, fault, moment }: Cell): GatedCall | HeldCall {
  const by = { workloadId: thread, activity: row.activity };
  if (fault === 'hangs') return gates.hold(row.port, moment, by);
  return gates.failOnce(row.port, moment, () => portError(fault, `${moment} ${row.port}`), by);
}

function inWords(outcome: RunOutcome): string {
  return outcome.as === 'failed' ? `failed ${outcome.failure}` : outcome.as;
}

async function tableOf(reports: ReadonlyMap<Cell, Promise<Report>>): Promise<string> {
  const outcomes = new Map<Cell, string>();
  for (const [cell, report] of reports) outcomes.set(cell, await report.then(({ outcome }) => outcome, String));
  const lines = SESSION_ROWS.flatMap((row) =>
    row.moments.map((moment) => {
      const cells = CELLS.filter((cell) => cell.row === row && cell.moment === moment).map((cell) => {
        const expected = row.outcomes[cell.fault];
        const text = outcomes.get(cell);
        return `${cell.fault}: ${text}${text === expected ? '' : ` (expected ${expected})`}`;
      });
      return `${row.activity} ${moment} ${row.port}  ${cells.join(' · ')}`;
    }),
  );
  return [...lines, ...SENSELESS.map((why) => `no sense: ${why}`)].join('\n');
}
