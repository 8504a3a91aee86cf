/**
 * A gateway is killed at each point of sending a run. Its caller sends the same id again, through another gateway: one
 * run, one answer, and no second sealed body.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createKilnClient, type KilnClient } from '../../client/http/kiln-client.ts';
import type { RunRequestBody } from '../../contracts/api/session-request.ts';
import { sessionWorkflowId, storeKeys } from '../../domain/names.ts';
import { MAX_CARRIED_REQUEST } from '../../store/sessions/run-requests.ts';
import { repeatingApi } from '../support/gateway/repeating-api.ts';
import { runServers } from '../support/servers/run-servers.ts';
import { throughOutages } from '../support/workers/dev-stack.ts';
import { GATEWAY_TOKEN } from '../support/workers/gated-gateway.ts';
import { quietRuntime } from '../support/workers/kiln-harness.ts';
import type { Moment } from '../support/workers/port-gates.ts';
import { ProcessStack, type WorkerProcess } from '../support/workers/process-stack.ts';
import { closeAll, outputsBelow, threadNamed } from '../support/workers/session-steps.ts';
import { pooled } from './fault-cells.ts';

/** A point of a send: one call of the gateway, before or after its effect. */
interface Point {
  readonly what: string;
  readonly port: string;
  readonly moments: readonly Moment[];
  /** The body is too large to travel through Temporal. */
  readonly isLarge?: true;
  /** The caller waits for the end of the run, too. */
  readonly waits?: true;
}

const BOTH: readonly Moment[] = ['before', 'after'];
/** In the order of a first send to a thread. */
const POINTS: readonly Point[] = [
  { what: 'the send begins', port: 'sessions.send', moments: ['before'] },
  { what: 'the record of the thread is read', port: 'sessionBooks.sessions.read', moments: BOTH },
  { what: 'the image is resolved', port: 'sessionBooks.resolveImage', moments: ['after'] },
  { what: 'the record is begun', port: 'sessionBooks.sessions.begin', moments: BOTH },
  { what: 'the key is looked for', port: 'store.readDocument', moments: ['after'] },
  { what: 'the key is made', port: 'store.writeDocument', moments: BOTH },
  { what: 'the sealed body goes into the store', port: 'store.putBlob', moments: BOTH, isLarge: true },
  { what: 'the body is sealed', port: 'sessionBooks.requests.seal', moments: ['after'], isLarge: true },
  { what: 'the workflow takes the run', port: 'temporal.executeUpdateWithStart', moments: BOTH },
  { what: 'the record of the run is looked for', port: 'sessionBooks.runs.read', moments: BOTH },
  { what: 'the answer is written', port: 'sessions.send', moments: ['after'] },
  { what: 'the end of the run is waited for', port: 'sessions.run', moments: BOTH, waits: true },
];

interface Cell extends Omit<Point, 'moments' | 'port'> {
  readonly thread: string;
  /** Absent: no call of the gateway is held, Temporal has it and no worker takes it. */
  readonly at?: { readonly port: string; readonly moment: Moment };
}

const CELLS: readonly Cell[] = [
  ...POINTS.flatMap(({ moments, port, ...point }, n) =>
    moments.map((moment) => ({ ...point, at: { port, moment }, thread: `point-${n}-${moment}` })),
  ),
  { what: 'Temporal has the run, and no worker has taken it', thread: 'no-worker' },
];
const AT_ONCE = 8;
const ID = 'sent';

interface Report {
  /** How the killed gateway had answered. */
  readonly first: string;
  readonly answers: readonly unknown[];
  readonly starts: number;
  /** Sealed bodies of the thread in the store. */
  readonly bodies: number;
}

describe('a gateway killed at each point of a send', () => {
  const reports = new Map<Cell, Report | Error>();
  let stack: ProcessStack;

  beforeAll(async () => {
    quietRuntime();
    stack = await ProcessStack.start(runServers());
    const [first, second] = await Promise.all([stack.startGateway(), stack.startGateway()]);
    const firstAnswers = new Map<Cell, string>();
    const sendTo = (cell: Cell) => {
      firstAnswers.set(cell, 'none');
      void firstSend(first, cell).then((answer) => firstAnswers.set(cell, answer));
    };
    await pooled(CELLS, AT_ONCE, async (cell) => {
      if (cell.at === undefined) return;
      const { reached } = await first.hold(cell.at.port, cell.at.moment, { workloadId: cell.thread });
      sendTo(cell);
      await reached;
    });
    stack.worker('control').signal('SIGSTOP');
    for (const cell of CELLS.filter(({ at }) => at === undefined)) {
      sendTo(cell);
      await untilStarted(stack, cell);
    }
    await first.kill();
    stack.worker('control').signal('SIGCONT');
    const api = repeatingApi(createKilnClient({ apiUrl: second.url, token: GATEWAY_TOKEN }));
    await pooled(CELLS, AT_ONCE, async (cell) => {
      const report = reportOf(stack, api, cell, () => firstAnswers.get(cell) ?? '');
      reports.set(cell, await report.catch((error: unknown) => new Error(String(error), { cause: error })));
    });
    console.log(tableOf(reports));
  });
  afterAll(() => stack.close());

  it.each(CELLS.map((cell) => [cell.what, cell.at?.moment ?? 'while', cell] as const))(
    '%s: %s',
    (_what, _moment, cell) => {
      const report = reports.get(cell);
      if (report instanceof Error) throw report;
      expect(report).toMatchObject({ first: 'none', starts: 1, bodies: cell.isLarge === true ? 1 : 0 });
      expect(report?.answers[0]).toMatchObject({ id: ID, state: 'finished', turn: 1, exit: { code: 0 } });
      for (const answer of report?.answers ?? []) expect(answer).toEqual(report?.answers[0]);
    },
  );

  it('leaves nothing on the host, and lawful histories that replay', async () => {
    await closeAll(stack.sessions());
    while ((await stack.left()).length > 0) await delay(100);
    await stack.judge();
  });
});

function requestOf({ thread, isLarge }: Cell): RunRequestBody & { id: string } {
  const words = isLarge === true ? ['x'.repeat(MAX_CARRIED_REQUEST)] : [];
  return { id: ID, command: ['sh', '-c', `echo 'started ${thread}.'`, ...words] };
}

/** @returns what came back: `none` where the gateway died before it answered */
async function firstSend({ url }: WorkerProcess, cell: Cell): Promise<string> {
  const reply = await fetch(`${url}/api/sessions/${cell.thread}/runs${cell.waits === true ? '?wait=finished' : ''}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${GATEWAY_TOKEN}`, 'content-type': 'application/json' },
    body: JSON.stringify(requestOf(cell)),
  }).catch(() => undefined);
  return reply === undefined ? 'none' : `${reply.status} ${await reply.text().catch(() => '')}`;
}

/** The workflow is there, with a message that nobody has taken. */
async function untilStarted({ temporal }: ProcessStack, { thread }: Cell): Promise<void> {
  const handle = temporal.workflow.getHandle(sessionWorkflowId({ ...threadNamed(thread), incarnation: 1 }));
  while (
    !(await handle.describe().then(
      () => true,
      () => false,
    ))
  )
    await delay(20);
}

async function reportOf(stack: ProcessStack, api: KilnClient, cell: Cell, first: () => string): Promise<Report> {
  const { thread } = cell;
  // As it is told to do: again with the same id, as long as it is not known whether it was taken.
  const order = { params: { thread }, query: { wait: 'finished' as const, waitMs: 60_000 }, body: requestOf(cell) };
  const send = () => throughOutages(() => api.sendRun(order));
  const runs = [await send(), await send(), await api.getRun({ params: { thread, id: ID }, query: {} })];
  // Whether what it left is saved changes after its end.
  const answers = runs.map(({ saved: _, ...answer }) => answer);
  const below = storeKeys.runRequest({ ...threadNamed(thread), incarnation: 1 }, '');
  const bodies: string[] = [];
  for await (const { key } of stack.store.listAll(below)) bodies.push(key);
  const starts = (await outputsBelow(stack.stateDir)).split(`started ${thread}.`).length - 1;
  return { first: first(), answers, starts, bodies: bodies.length };
}

function tableOf(reports: ReadonlyMap<Cell, Report | Error>): string {
  const lines = CELLS.map((cell) => {
    const report = reports.get(cell);
    const at = cell.at === undefined ? '' : ` (${cell.at.moment} ${cell.at.port})`;
    if (report === undefined || report instanceof Error) return `${cell.what}${at}: ${report?.message}`;
    const different = new Set(report.answers.map((answer) => JSON.stringify(answer))).size;
    return `${cell.what}${at}: ${report.starts} start, ${different} answer, ${report.bodies} bodies in the store`;
  });
  return ['A gateway killed while (starts are counted in the output files of the host):', ...lines].join('\n');
}
