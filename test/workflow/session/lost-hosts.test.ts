/** Sessions whose host is silent, or cut off from Temporal alone: they go on elsewhere, or there once it is back. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ControlPorts } from '../../../activities/control-activities.ts';
import { KilnError } from '../../../domain/failures.ts';
import { sessionWorkflowId, type ThreadName } from '../../../domain/names.ts';
import type { SessionPolicyOverrides } from '../../../domain/policies.ts';
import type { EndedRun } from '../../../domain/session/run-book.ts';
import { createSaveHeads } from '../../../store/sessions/saves/heads.ts';
import { callingActivity } from '../../support/workers/calling-activity.ts';
import { FAST_SESSIONS, type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { PortGates } from '../../support/workers/port-gates.ts';
import { untilSaved as savedIn } from '../../support/workers/save-steps.ts';
import { closeAll, ended, ran, shell, threadNamed, untilRun, untilTier } from '../../support/workers/session-steps.ts';

const LEASES_MS = 1_500;
const host = {
  ...FAST_SESSIONS.host,
  scheduleToStartMs: 500,
  recheckMs: 800,
  movesAfter: { scheduleToStartMs: 300, silentMs: 1_500 },
  leasesMs: LEASES_MS,
  outageTries: 2,
};

const gates = new PortGates(callingActivity);
let isStopped = false;
const stopHost = async () => {
  await kiln.stopHost();
  isStopped = true;
};
const startHost = async () => {
  if (isStopped) await kiln.startHost();
  isStopped = false;
};
/** Whether control workers take the first host for one that registers, whatever it does. */
let isDeaf = false;
let kiln: Harness;

const told = (ports: ControlPorts): ControlPorts => ({
  ...ports,
  hosts: {
    list: () => ports.hosts.list(),
    async read(hostId) {
      const entry = await ports.hosts.read(hostId);
      return entry !== undefined && isDeaf && hostId === 'h1' ? { ...entry, at: new Date().toISOString() } : entry;
    },
  },
});

beforeAll(async () => {
  kiln = await startHarness({ controlPorts: told, hostPorts: (ports) => gates.over(ports), secondHost: true });
});
afterEach(async () => {
  isDeaf = false;
  await kiln.second.stop();
  await startHost();
});
afterAll(() => kiln.close());

const sessions = (more: SessionPolicyOverrides = {}) => kiln.sessionsWith({ host, ...more });
const untilSaved = (name: ThreadName) => savedIn(kiln, name);
const epochOfHead = async (name: ThreadName) =>
  (await createSaveHeads(kiln.store).read({ ...name, incarnation: 1 }))?.epoch;
const hostOf = ({ vm }: EndedRun) => vm?.hostId;

async function atRest(thread: string, policies: SessionPolicyOverrides = {}): Promise<ThreadName> {
  const name = threadNamed(thread);
  const first = await ran(sessions(policies), name, 'one', shell('echo kept > note'));
  expect(hostOf(first)).toBe('h1');
  await untilSaved(name);
  await untilTier(kiln.sessions, name, 'warm');
  return name;
}

describe('a session that rests and is saved', () => {
  it('goes on elsewhere soon, and nothing of it is lost', async () => {
    const name = await atRest('host-moves');
    await stopHost();
    await kiln.second.start();
    const two = await ran(sessions(), name, 'two', shell('grep -x kept note'));
    expect(two).toMatchObject({ outcome: { as: 'finished', code: 0 }, vm: { hostId: 'h2' } });
    expect(two).not.toHaveProperty('lost');
    const { state } = await kiln.sessions.get(name);
    const causes = state?.events.filter(({ of }) => of === 'tier').map(({ cause }) => cause.code);
    expect(causes).toContain('HOST_LOST');
    expect(await epochOfHead(name)).toBe(2);
  });

  it('goes on where it was once that host is back, where there is no other', async () => {
    const name = await atRest('host-returns');
    await stopHost();
    await sessions().send(name, { id: 'two', command: shell('grep -x kept note') });
    await untilTier(kiln.sessions, name, 'restoring');
    await startHost();
    const two = await ended(kiln.sessions, name, 'two');
    expect(two).toMatchObject({ outcome: { as: 'finished', code: 0 }, vm: { hostId: 'h1' } });
    const three = await ran(kiln.sessions, name, 'three', shell('grep -x kept note'));
    expect(three.vm).toEqual(two.vm);
  });
});

describe('a session whose host has put a save into the store, and is lost before it says so', () => {
  const away = () => new KilnError('STORE_UNAVAILABLE', 'The object store does not answer.');
  // The answer of the one upload is lost, and there is no second.
  const policies = { save: { ...FAST_SESSIONS.save, backoffMs: 600_000, maxBackoffMs: 600_000 } };
  const unheard = async (name: ThreadName, id: string, script: string) => {
    const { reached } = gates.failOnce('sessions.saves.upload', 'after', away, { workloadId: name.thread });
    await ran(sessions(policies), name, id, shell(script));
    await reached;
  };

  it('has lost nothing where that save had everything', async () => {
    const name = await atRest('unheard', policies);
    await unheard(name, 'two', 'echo two > note');
    await untilTier(kiln.sessions, name, 'warm');
    await stopHost();
    await kiln.second.start();
    const three = await ran(sessions(), name, 'three', shell('grep -x two note'));
    expect(three).toMatchObject({ outcome: { as: 'finished', code: 0 }, vm: { hostId: 'h2' } });
    expect(three).not.toHaveProperty('lost');
  });

  it('says which turn is there where a run had begun since', async () => {
    const name = await atRest('unheard-run', policies);
    await unheard(name, 'two', 'echo two > note');
    await sessions().send(name, { id: 'three', command: shell('echo three > note; sleep 1000') });
    await untilRun(kiln.sessions, name, 'three', 'running');
    await stopHost();
    await kiln.second.start();
    const four = await ran(sessions(), name, 'four', shell('grep -x two note'));
    expect(four).toMatchObject({ outcome: { as: 'finished', code: 0 }, lost: { afterTurn: 3, restoredTurn: 2 } });
  });
});

describe('a session in its run', () => {
  it('loses that run with its host, and goes on there once it is back: no earlier VM can save any more', async () => {
    const name = threadNamed('host-lost');
    await sessions().send(name, { id: 'one', command: shell('echo one > note; sleep 1000') });
    await untilRun(kiln.sessions, name, 'one', 'running');
    await stopHost();
    expect(await ended(kiln.sessions, name, 'one')).toMatchObject({ outcome: { as: 'failed', failure: 'HOST_LOST' } });
    await startHost();
    const two = await ran(kiln.sessions, name, 'two', shell('[ ! -e note ] && echo two > note'));
    expect(two).toMatchObject({ outcome: { as: 'finished', code: 0 }, vm: { hostId: 'h1' } });
    expect(await epochOfHead(name)).toBe(2);
  });

  it('goes on elsewhere where its host registers and takes no calls, once the VM there must stand still', async () => {
    const name = threadNamed('host-deaf');
    await sessions().send(name, { id: 'one', command: shell('sleep 1000') });
    await untilRun(kiln.sessions, name, 'one', 'running');
    isDeaf = true;
    await stopHost();
    await kiln.second.start();
    expect(await ended(kiln.sessions, name, 'one')).toMatchObject({ outcome: { as: 'failed', failure: 'HOST_LOST' } });
    const two = await ran(kiln.sessions, name, 'two', shell('true'));
    expect(two).toMatchObject({ outcome: { as: 'finished', code: 0 }, vm: { hostId: 'h2' } });
    expect(await epochOfHead(name)).toBe(2);
    expect(await hasWaited(name)).toBe(true);
  });
});

describe('a session whose host is cut off from Temporal alone while it is held', () => {
  it('begins elsewhere once the VM there must stand still, and says what it has lost', async () => {
    const name = await atRest('host-deaf-held');
    await sessions().hold(name, { kind: 'readFiles', waitMs: 20_000 }, async () => {
      isDeaf = true;
      await stopHost();
    });
    await kiln.second.start();
    const two = await ran(sessions(), name, 'two', shell('true'));
    expect(two).toMatchObject({ outcome: { as: 'finished' }, vm: { hostId: 'h2' } });
    expect(await hasWaited(name)).toBe(true);
    const { state } = await kiln.sessions.get(name);
    expect(state?.events.map(({ cause }) => cause.code)).toContain('HOST_LOST');
  });
});

describe('a run that may be repeated, and those that wait behind it', () => {
  it('go on elsewhere after the loss of their host', async () => {
    const name = threadNamed('host-lost-repeatable');
    await sessions().send(name, { id: 'one', command: shell('sleep 3'), repeatable: true });
    await untilRun(kiln.sessions, name, 'one', 'running');
    for (const id of ['two', 'three']) await sessions().send(name, { id, command: shell('true') });
    await stopHost();
    await kiln.second.start();
    for (const id of ['one', 'two', 'three']) {
      expect(await ended(kiln.sessions, name, id)).toMatchObject({ outcome: { code: 0 }, vm: { hostId: 'h2' } });
    }
  });
});

describe('a session whose host is lost in the middle of a wake', () => {
  it('goes on elsewhere: nothing of it was in that VM', async () => {
    const name = await asleep('host-lost-in-wake');
    const restore = gates.hold('sessions.saves.restore', 'before', { workloadId: name.thread });
    await sessions().send(name, { id: 'two', command: shell('grep -x kept note') });
    await restore.reached;
    await stopHost();
    await kiln.second.start();
    expect(await ended(kiln.sessions, name, 'two')).toMatchObject({
      outcome: { as: 'finished', code: 0 },
      vm: { hostId: 'h2' },
    });
    restore.release();
  });

  it('comes to later placements after those that failed, also as a new execution', async () => {
    const policies = {
      session: { ...FAST_SESSIONS.session, continueColdAfter: 60 },
      host: { ...host, outageTries: 0 },
    };
    const name = await asleep('failed-wakes', policies);
    for (const id of ['two', 'three', 'four']) {
      const away = () => new KilnError('STORE_UNAVAILABLE', 'It is away in a test.');
      gates.failOnce('sessions.saves.restore', 'after', away, { workloadId: name.thread });
      const run = await ran(kiln.sessions, name, id, shell('true'));
      expect(run).toMatchObject({ outcome: { as: 'failed', failure: 'STORE_UNAVAILABLE' } });
    }
    const epoch = await epochOfHead(name);
    while ((await historyOf(name)).some(({ workflowExecutionStartedEventAttributes: start }) => isFirst(start))) {
      await delay(50);
    }
    expect(await ran(kiln.sessions, name, 'five', shell('grep -x kept note'))).toMatchObject({ outcome: { code: 0 } });
    expect(await epochOfHead(name)).toBeGreaterThan(epoch ?? 0);
  });
});

async function asleep(thread: string, policies: SessionPolicyOverrides = {}): Promise<ThreadName> {
  const name = await atRest(thread, policies);
  await kiln.sessions.sleep(name);
  await untilTier(kiln.sessions, name, 'cold');
  return name;
}

const isFirst = (start: { continuedExecutionRunId?: string | null } | null | undefined) =>
  start !== undefined && start !== null && !start.continuedExecutionRunId;

async function historyOf(name: ThreadName) {
  const id = sessionWorkflowId({ ...name, incarnation: 1 });
  return (await kiln.temporal.workflow.getHandle(id).fetchHistory()).events ?? [];
}

/** @returns whether the history has the wait for the VM of another host */
async function hasWaited(name: ThreadName): Promise<boolean> {
  const timers = (await historyOf(name)).map(({ timerStartedEventAttributes: timer }) => timer?.startToFireTimeout);
  return timers.some((time) => Number(time?.seconds ?? 0) * 1000 + (time?.nanos ?? 0) / 1e6 === LEASES_MS);
}

it('a host with room for one VM, which is back, ends the VM that its session has lost, and takes the session again', async () => {
  const small = await startHarness({
    capacity: { vcpus: 1, memMib: 1024 },
    hostSettings: { sweep: { everyMs: 300, graceMs: 300 } },
  });
  try {
    const name = threadNamed('only-host');
    const policies = { host, placement: { ...FAST_SESSIONS.placement, deadlineMs: 30_000 } };
    const client = small.sessionsWith(policies);
    await client.send(name, { id: 'one', command: shell('sleep 1000') });
    const run = await untilRun(small.sessions, name, 'one', 'running');
    await small.stopHost();
    expect(await ended(small.sessions, name, 'one')).toMatchObject({ outcome: { failure: 'HOST_LOST' } });
    await small.startHost();
    const vmId = run.state === 'running' ? run.run.vm.vmId : '';
    while ((await small.host.vms.status(vmId)).state !== 'gone') await delay(50);
    expect(await ran(client, name, 'two', shell('true'))).toMatchObject({ outcome: { as: 'finished' } });
    await closeAll(small.sessions);
  } finally {
    await small.close();
  }
});

it('leaves nothing, and histories that replay', async () => {
  await kiln.second.start();
  await closeAll(kiln.sessions);
  while ((await kiln.left()).length > 0) await delay(100);
  await kiln.judge();
});
