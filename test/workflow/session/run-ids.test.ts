/** One run id sent again, at every moment in the life of a session, by two gateways: one run, one answer. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LocatedRun, SessionClient } from '../../../client/temporal/sessions/session-client.ts';
import type { RunRequestBody } from '../../../contracts/api/session-request.ts';
import { isKilnError } from '../../../domain/failures.ts';
import { sessionWorkflowId, type ThreadName } from '../../../domain/names.ts';
import type { EndedRun } from '../../../domain/session/run-book.ts';
import { callingActivity } from '../../support/workers/calling-activity.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { PortGates } from '../../support/workers/port-gates.ts';
import {
  closeAll,
  ended,
  forget,
  outputsBelow,
  ran,
  recorded,
  threadNamed,
} from '../../support/workers/session-steps.ts';

const ID = 'same';
/** Each has records of threads of its own, which may be older than what the other has done. */
type Gateways = readonly [SessionClient, SessionClient];

/** A moment at which the id is sent again. */
interface Moment {
  readonly when: string;
  readonly thread: string;
  /** Policies of the session. */
  readonly policies?: Parameters<Harness['sessionsWith']>[0];
  /** Whether the run was taken before this moment. */
  readonly isTaken: boolean;
  /** How the thread comes there. @returns what lets it go on after the id was sent again */
  readonly reach: (name: ThreadName, gateways: Gateways) => Promise<(() => unknown) | undefined>;
  /** What another id is told then. Default: it is taken. */
  readonly others?: 'SESSION_CLOSED' | 'SESSION_EXPIRED';
  /** What is asked besides when the id is sent again. */
  readonly more?: Pick<RunRequestBody, 'ifEnded'>;
}

const gates = new PortGates(callingActivity);
let kiln: Harness;

const command = ({ thread }: ThreadName) => ['sh', '-c', `echo 'started ${thread}.'`];
const request = (name: ThreadName, more: Moment['more'] = {}) => ({ id: ID, command: command(name), ...more });
const idOf = (name: ThreadName) => sessionWorkflowId({ ...name, incarnation: 1 });
const atPort = (port: string, moment: 'before' | 'after', { thread }: ThreadName) =>
  gates.hold(port, moment, { workloadId: thread });

/** Runs it once, as known to both gateways, and on record. */
async function runOnce(name: ThreadName, [one, two]: Gateways): Promise<void> {
  await ran(one, name, ID, command(name));
  await two.send(name, request(name));
  await recorded(kiln.runRecords, name, ID);
}

async function expire(name: ThreadName, gateways: Gateways): Promise<void> {
  await gateways[0].create(name, { tiers: { ttlMs: 500 } });
  await runOnce(name, gateways);
  await kiln.temporal.workflow.getHandle(idOf(name)).result();
}

async function close(name: ThreadName, gateways: Gateways): Promise<void> {
  await runOnce(name, gateways);
  await gateways[0].close(name, { waitMs: 20_000 });
}

/** The session of the thread that is going on after one that has ended. */
async function goOnAnew(name: ThreadName, [one]: Gateways): Promise<void> {
  await one.send(name, { id: 'other', command: ['true'], ifEnded: 'restart' });
  expect((await one.run(name, 'other')).session.incarnation).toBe(2);
}

const MOMENTS: readonly Moment[] = [
  {
    when: 'by both gateways at once, to a thread without a session',
    thread: 'at-once',
    isTaken: false,
    reach: async () => undefined,
  },
  {
    when: 'before the session has begun',
    thread: 'before-begin',
    isTaken: false,
    reach: async (name, [one]) => {
      const held = atPort('sessionBooks.sessions.read', 'before', name);
      await one.send(name, { id: 'first', command: ['true'] });
      await held.reached;
      return held.release;
    },
  },
  {
    when: 'while it runs',
    thread: 'runs',
    isTaken: true,
    reach: async (name, [one]) => {
      const held = atPort('sessions.runs.run', 'after', name);
      await one.send(name, request(name));
      await held.reached;
      return held.release;
    },
  },
  {
    when: 'while its session continues as new',
    thread: 'continues',
    policies: { session: { continueAfter: 60, continueAnywayAfter: 90, settleMs: 10 } },
    isTaken: true,
    reach: async (name, gateways) => {
      await runOnce(name, gateways);
      await sentUntilContinued(name, gateways);
      return undefined;
    },
  },
  {
    when: 'after it has ended',
    thread: 'ended',
    isTaken: true,
    reach: async (name, gateways) => void (await runOnce(name, gateways)),
  },
  {
    when: 'after its session was closed',
    thread: 'closed',
    isTaken: true,
    others: 'SESSION_CLOSED',
    reach: async (name, gateways) => void (await close(name, gateways)),
  },
  {
    when: 'after its session was closed, where Temporal has forgotten it',
    thread: 'closed-forgotten',
    isTaken: true,
    others: 'SESSION_CLOSED',
    reach: async (name, gateways) => {
      await close(name, gateways);
      await forget(kiln.temporal, idOf(name));
      return undefined;
    },
  },
  {
    when: 'after its session was closed and forgotten, to a workflow that a caller has begun who had not heard of it',
    thread: 'begun-late',
    isTaken: true,
    others: 'SESSION_CLOSED',
    reach: async (name, gateways) => {
      await close(name, gateways);
      await forget(kiln.temporal, idOf(name));
      // That workflow finds the session closed, cancels what it has taken, and is held where it notes that.
      const held = atPort('sessionBooks.runs.write', 'before', name);
      const another = { id: ID, command: ['echo', 'another body'] };
      expect(await codeOf(() => gateways[1].send(name, another))).toBe('CONFLICT');
      await held.reached;
      return held.release;
    },
  },
  {
    when: 'after its session has expired',
    thread: 'expired',
    isTaken: true,
    others: 'SESSION_EXPIRED',
    reach: async (name, gateways) => void (await expire(name, gateways)),
  },
  {
    when: 'after its session has expired, by a caller who would begin a new one',
    thread: 'expired-restart',
    isTaken: true,
    others: 'SESSION_EXPIRED',
    reach: async (name, gateways) => void (await expire(name, gateways)),
    more: { ifEnded: 'restart' },
  },
  {
    when: 'in the session that came after the expired one, before that has begun',
    thread: 'new-session-begins',
    isTaken: true,
    reach: async (name, gateways) => {
      await expire(name, gateways);
      const held = atPort('sessionBooks.sessions.read', 'before', name);
      await goOnAnew(name, gateways);
      await held.reached;
      return held.release;
    },
    more: { ifEnded: 'restart' },
  },
  {
    when: 'in the session that came after the expired one, behind a run that goes on',
    thread: 'new-session',
    isTaken: true,
    reach: async (name, gateways) => {
      await expire(name, gateways);
      const held = atPort('sessions.runs.run', 'after', name);
      await goOnAnew(name, gateways);
      await held.reached;
      return held.release;
    },
    more: { ifEnded: 'restart' },
  },
  {
    when: 'where Temporal has forgotten the session, which was open',
    thread: 'forgotten',
    isTaken: true,
    reach: async (name, gateways) => {
      await runOnce(name, gateways);
      await forget(kiln.temporal, idOf(name));
      return undefined;
    },
  },
  {
    when: 'where the workflow of the session was terminated',
    thread: 'terminated',
    isTaken: true,
    others: 'SESSION_CLOSED',
    reach: async (name, gateways) => {
      await runOnce(name, gateways);
      await kiln.temporal.workflow.getHandle(idOf(name)).terminate('by a test');
      return undefined;
    },
  },
];

interface Report {
  /** What those who sent another body under the id were told. */
  readonly refusals: readonly string[];
  /** The run as each gateway answered in the end, to a look and to one more sending. */
  readonly answers: readonly unknown[];
  readonly located: LocatedRun;
  readonly starts: number;
  /** What another id was told, and how it ended once it asked for a new session where there was none. */
  readonly other: string;
  readonly next: EndedRun;
}

describe('one run id', () => {
  const reports = new Map<Moment, Report | Error>();

  beforeAll(async () => {
    kiln = await startHarness({ hostPorts: (ports) => gates.over(ports), controlPorts: (ports) => gates.over(ports) });
    await Promise.all(
      MOMENTS.map(async (moment) => {
        reports.set(
          moment,
          await reportOf(moment).catch((error: unknown) => new Error(String(error), { cause: error })),
        );
      }),
    );
    console.log(tableOf(reports));
  });
  afterAll(() => kiln.close());

  it.each(MOMENTS.map((moment) => [moment.when, moment] as const))(
    'sent again %s: one run, one answer, and a CONFLICT for another body',
    (_when, moment) => {
      const report = reports.get(moment);
      if (report instanceof Error) throw report;
      expect(report?.refusals).toEqual(report?.refusals.map(() => 'CONFLICT'));
      expect(report?.starts).toBe(1);
      expect(report?.answers[0]).toMatchObject({ id: ID, outcome: { as: 'finished', code: 0 } });
      for (const answer of report?.answers ?? []) expect(answer).toEqual(report?.answers[0]);
      expect(report?.located.session.incarnation).toBe(1);
      expect(report?.other).toBe(moment.others ?? 'taken');
      expect(report?.next).toMatchObject({ outcome: { as: 'finished' } });
      expect(report?.next.turn).toBeGreaterThan(1);
    },
  );

  it('leaves nothing, and histories that replay', async () => {
    await closeAll(kiln.sessions);
    while ((await kiln.left()).length > 0) await delay(100);
    await kiln.judge();
  });
});

async function reportOf({ thread, policies = {}, isTaken, reach, more }: Moment): Promise<Report> {
  const name = threadNamed(thread);
  const gateways: Gateways = [kiln.sessionsWith(policies), kiln.sessionsWith(policies)];
  const release = await reach(name, gateways);
  const another = { id: ID, command: ['echo', 'another body'], ...more };
  const refusedByAll = () => Promise.all(gateways.map((gateway) => codeOf(() => gateway.send(name, another))));
  const refusals = isTaken ? await refusedByAll() : [];
  await Promise.all([...gateways, ...gateways].map((gateway) => gateway.send(name, request(name, more))));
  refusals.push(...(await refusedByAll()));
  await release?.();
  const looks = await Promise.all(gateways.map((gateway) => ended(gateway, name, ID)));
  refusals.push(...(await refusedByAll()));
  const sent = await Promise.all(gateways.map((gateway) => gateway.send(name, request(name, more))));
  const other = await codeOf(() => gateways[1].send(name, { id: 'next', command: ['true'] }));
  await gateways[1].send(name, { id: 'next', command: ['true'], ifEnded: 'restart' });
  return {
    refusals,
    answers: [...looks, ...sent.map(({ run }) => run)],
    located: await gateways[0].run(name, ID),
    starts: (await outputsBelow(kiln.stateDir)).split(`started ${thread}.`).length - 1,
    other,
    next: await ended(gateways[1], name, 'next'),
  };
}

async function codeOf(call: () => Promise<unknown>): Promise<string> {
  try {
    await call();
    return 'taken';
  } catch (error) {
    return isKilnError(error) ? error.code : String(error);
  }
}

/** At every moment until the session has continued as new, both gateways have the id under way several times. */
async function sentUntilContinued(name: ThreadName, gateways: Gateways): Promise<void> {
  const execution = async () => (await kiln.temporal.workflow.getHandle(idOf(name)).describe()).runId;
  const first = await execution();
  let isOver = false;
  const sendAgain = async (gateway: SessionClient) => {
    while (!isOver) await gateway.send(name, request(name));
  };
  const untilContinued = async () => {
    while ((await execution()) === first) await delay(5);
    isOver = true;
  };
  await Promise.all([...[...gateways, ...gateways].map(sendAgain), untilContinued()]);
}

function tableOf(reports: ReadonlyMap<Moment, Report | Error>): string {
  const lines = MOMENTS.map((moment) => {
    const report = reports.get(moment);
    if (report instanceof Error) return `${moment.when}: ${report.message}`;
    const answers = new Set(report?.answers.map((answer) => JSON.stringify(answer)));
    const told = [...new Set(report?.refusals)].join(', ');
    return `${moment.when}: ${report?.starts} start, ${answers.size} answer, another body ${told}`;
  });
  return ['One run id, sent again (starts are counted in the output files of the host):', ...lines].join('\n');
}
