/** Both workers are killed while sessions are in the middle of every step: each run still happens once, with one end. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SessionClient } from '../../client/temporal/sessions/session-client.ts';
import { inTime } from '../../concurrency/deadline.ts';
import type { EndedRun } from '../../domain/session/run-book.ts';
import { runServers } from '../support/servers/run-servers.ts';
import { throughOutages } from '../support/workers/dev-stack.ts';
import { quietRuntime } from '../support/workers/kiln-harness.ts';
import type { Moment } from '../support/workers/port-gates.ts';
import { ProcessStack } from '../support/workers/process-stack.ts';
import {
  closeAll,
  ended,
  outputsBelow,
  ran,
  threadNamed,
  untilRun,
  untilTier,
} from '../support/workers/session-steps.ts';
import { pooled } from './fault-cells.ts';

/** Where a session is when both workers die. `way`: what it is doing there. */
interface Row {
  readonly role: 'host' | 'control';
  readonly activity: string;
  readonly port: string;
  readonly moments: readonly Moment[];
  readonly way: 'first run' | 'next run' | 'cancel' | 'rest' | 'close' | 'sleep' | 'wake';
}

const BOTH: readonly Moment[] = ['before', 'after'];
const ROWS: readonly Row[] = [
  { role: 'control', activity: 'openSession', port: 'sessionBooks.sessions.read', moments: BOTH, way: 'first run' },
  { role: 'host', activity: 'provisionRootfs', port: 'vms.provision', moments: BOTH, way: 'first run' },
  { role: 'host', activity: 'bootVm', port: 'vms.boot', moments: BOTH, way: 'first run' },
  { role: 'host', activity: 'runTurn', port: 'sessions.vms.setEgress', moments: BOTH, way: 'first run' },
  { role: 'host', activity: 'runTurn', port: 'sessions.requests.open', moments: BOTH, way: 'first run' },
  { role: 'host', activity: 'runTurn', port: 'sessions.runs.run', moments: BOTH, way: 'first run' },
  { role: 'control', activity: 'recordRuns', port: 'sessionBooks.runs.write', moments: BOTH, way: 'first run' },
  { role: 'host', activity: 'saveWorkspace', port: 'sessions.saves.snapshot', moments: BOTH, way: 'rest' },
  { role: 'host', activity: 'uploadSaves', port: 'sessions.saves.upload', moments: BOTH, way: 'rest' },
  { role: 'host', activity: 'pauseVm', port: 'sessions.vms.pause', moments: BOTH, way: 'rest' },
  { role: 'host', activity: 'resumeVm', port: 'sessions.vms.resume', moments: BOTH, way: 'next run' },
  { role: 'host', activity: 'cancelRun', port: 'sessions.runs.cancel', moments: BOTH, way: 'cancel' },
  { role: 'host', activity: 'releaseVm', port: 'vms.release', moments: BOTH, way: 'close' },
  { role: 'host', activity: 'releaseVm', port: 'vms.release', moments: BOTH, way: 'sleep' },
  { role: 'host', activity: 'restoreWorkspace', port: 'sessions.saves.restore', moments: BOTH, way: 'wake' },
  { role: 'control', activity: 'endSession', port: 'sessionBooks.sessions.end', moments: BOTH, way: 'close' },
];

interface Cell {
  readonly row: Row;
  readonly moment: Moment;
  readonly thread: string;
}

const CELLS: readonly Cell[] = ROWS.flatMap((row, n) =>
  row.moments.map((moment) => ({ row, moment, thread: `cell-${n}-${moment}` })),
);
const AT_ONCE = 8;
const LINES = 20;

/** Takes a while, so that workers also die in the middle of its output. */
const talking = (mark: string, then = 'true') => [
  'sh',
  '-c',
  `for n in $(seq ${LINES}); do echo ${mark} $n; sleep 0.05; done; echo ${mark} >> note; ${then}`,
];
const expectedOutput = (mark: string) => Array.from({ length: LINES }, (_, n) => `${mark} ${n + 1}\n`).join('');

describe('both workers killed at once, with a session in the middle of every step', () => {
  const reports = new Map<Cell, readonly EndedRun[] | Error>();
  const followUps = new Map<Cell, EndedRun | Error>();
  let stack: ProcessStack;
  let sessions: SessionClient;

  beforeAll(async () => {
    quietRuntime();
    stack = await ProcessStack.start(runServers());
    sessions = stack.sessions();
    // What takes long comes first: a call that is held at its point has limits of its own.
    await pooled(CELLS, AT_ONCE, async (cell) => {
      await inTime(prepare(sessions, cell), STUCK_AFTER_MS, stuck(cell, 'its preparation')).catch(
        (error: unknown) => void reports.set(cell, asError(error)),
      );
    });
    await pooled(CELLS, AT_ONCE, async (cell) => {
      if (reports.has(cell)) return;
      await inTime(toThePoint(stack, sessions, cell), STUCK_AFTER_MS, stuck(cell, 'the way to its point')).catch(
        (error: unknown) => void reports.set(cell, asError(error)),
      );
    });
    await Promise.all([stack.worker('host').kill(), stack.worker('control').kill()]);
    await Promise.all([stack.startWorker('host'), stack.startWorker('control')]);
    await pooled(CELLS, AT_ONCE, async (cell) => {
      if (reports.has(cell)) return;
      const ends = inTime(endsOf(sessions, cell), STUCK_AFTER_MS, stuck(cell, 'its runs after the kill'));
      reports.set(cell, await ends.catch(asError));
      const after = inTime(afterwards(sessions, cell), STUCK_AFTER_MS, stuck(cell, 'its next run'));
      followUps.set(cell, await after.catch(asError));
    });
  }, 300_000);
  afterAll(() => stack.close());

  it.each(CELLS.map((cell) => [cell.row.way, cell.row.activity, cell.moment, cell.row.port, cell] as const))(
    'at a %s, in %s, %s %s',
    async (_way, _activity, _moment, _port, cell) => {
      const report = reports.get(cell);
      if (report instanceof Error) throw report;
      const isCut = cell.row.way === 'cancel';
      for (const [n, run] of (report ?? []).entries()) {
        const last = n === (report?.length ?? 0) - 1;
        expect(run, JSON.stringify(run.outcome)).toMatchObject(
          isCut && last ? { outcome: { as: 'cancelled' } } : { outcome: { as: 'finished', code: 0 } },
        );
      }
      const marks = markOf(cell);
      const text = await outputsOf(stack, cell.thread);
      const missing = marks.filter((mark) => !text.includes(expectedOutput(mark)));
      expect(isCut ? missing.slice(0, -1) : missing).toEqual([]);
      // Each line came once, so each process was started once.
      expect(text.match(/ 1\n/g)?.length).toBe(marks.length);
      const after = followUps.get(cell);
      if (after instanceof Error) throw after;
      expect(after).toMatchObject({ outcome: { as: 'finished', code: 0 } });
      // The VM has stayed; the workspace is there even where it was given up before.
      if (cell.row.way !== 'close' && cell.row.way !== 'sleep') expect(after?.vm).toEqual(report?.at(-1)?.vm);
      expect(after).not.toHaveProperty('lost');
    },
  );

  it('left nothing on the host, and lawful histories that replay', async () => {
    await closeAll(sessions);
    while ((await stack.left()).length > 0) await delay(250);
    await stack.judge();
  });
});

/** A step that takes longer is stuck, and says so by its name. */
const STUCK_AFTER_MS = 60_000;

function stuck({ thread }: Cell, step: string): () => Error {
  return () => new Error(`${thread} is stuck in ${step}`);
}

function idsOf({ way }: Row): string[] {
  return way === 'next run' || way === 'cancel' || way === 'wake' ? ['one', 'two'] : ['one'];
}

/** Marks of the runs of a cell, in their order: they begin the lines of their output. */
function markOf({ row, thread }: Cell): string[] {
  return idsOf(row).map((id) => `${thread}-${id}`);
}

/** Gives the thread a session at rest where the way begins with one. */
async function prepare(sessions: SessionClient, { row, thread }: Cell): Promise<void> {
  if (row.way === 'first run' || row.way === 'rest') return;
  await ran(sessions, threadNamed(thread), 'one', talking(`${thread}-one`));
  await untilTier(sessions, threadNamed(thread), 'warm');
  if (row.way !== 'wake') return;
  await sessions.sleep(threadNamed(thread));
  await untilTier(sessions, threadNamed(thread), 'cold');
}

async function toThePoint(stack: ProcessStack, sessions: SessionClient, cell: Cell): Promise<void> {
  const { row, moment, thread } = cell;
  const name = threadNamed(thread);
  const arm = () => stack.worker(row.role).hold(row.port, moment, { workloadId: thread, activity: row.activity });
  // What is to be cancelled does not end by itself.
  const then = row.way === 'cancel' ? 'sleep 1000' : 'true';
  const send = (id: string) =>
    throughOutages(() => sessions.send(name, { id, command: talking(`${thread}-${id}`, then) }));
  if (row.way === 'first run' || row.way === 'rest') {
    const { reached } = await arm();
    await send('one');
    return reached;
  }
  const { reached } = await arm();
  if (row.way === 'close') await sessions.close(name, { waitMs: 0 });
  else if (row.way === 'sleep') await sessions.sleep(name);
  else await send('two');
  if (row.way === 'cancel') {
    await untilRun(sessions, name, 'two', 'running');
    await started(stack, thread, `${thread}-two`);
    await sessions.cancel(name, 'two');
  }
  return reached;
}

async function endsOf(sessions: SessionClient, { row, thread }: Cell): Promise<readonly EndedRun[]> {
  const name = threadNamed(thread);
  return Promise.all(idsOf(row).map((id) => ended(sessions, name, id)));
}

/** The session goes on, or the thread begins a new one. */
async function afterwards(sessions: SessionClient, { row, thread }: Cell): Promise<EndedRun> {
  const name = threadNamed(thread);
  if (row.way === 'close') {
    while ((await sessions.get(name)).record.end === undefined) await delay(50);
  }
  // What was cancelled wrote no note.
  const wrote = row.way === 'close' ? [] : idsOf(row).slice(0, row.way === 'cancel' ? -1 : undefined);
  const checks = wrote.map((id) => `grep -qx ${thread}-${id} note`);
  const command = ['sh', '-ec', ['true', ...checks].join('\n')];
  await throughOutages(() => sessions.send(name, { id: 'after', command, ifEnded: 'restart' }));
  return ended(sessions, name, 'after');
}

async function started(stack: ProcessStack, thread: string, mark: string): Promise<void> {
  while (!(await outputsOf(stack, thread)).includes(`${mark} 1\n`)) await delay(20);
}

/** All output of the runs of a thread, without the frames around it. */
async function outputsOf(stack: ProcessStack, thread: string): Promise<string> {
  const lines = (await outputsBelow(stack.stateDir)).match(new RegExp(`${thread}-(one|two) \\d+\\n`, 'g'));
  return (lines ?? []).join('');
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
