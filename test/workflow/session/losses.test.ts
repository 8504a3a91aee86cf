/** What a session loses, and what it never does: its VM, its host, its workflow, Temporal's memory of it. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inTime } from '../../../concurrency/deadline.ts';
import { KilnError } from '../../../domain/failures.ts';
import { sessionWorkflowId, type ThreadName } from '../../../domain/names.ts';
import type { EndedRun } from '../../../domain/session/run-book.ts';
import { createRunOutputs } from '../../../store/sessions/run-outputs.ts';
import { createInstanceStore } from '../../../vmm/instance-record.ts';
import { createOwnerLookup } from '../../../workers/host/owner-lookup.ts';
import { callingActivity } from '../../support/workers/calling-activity.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { PortGates } from '../../support/workers/port-gates.ts';
import {
  closeAll,
  ended,
  killVm,
  outputsBelow,
  ran,
  recorded,
  shell,
  threadNamed,
  untilRun,
  untilTier,
} from '../../support/workers/session-steps.ts';

/** A step that takes longer is stuck, and says which. */
const STUCK_AFTER_MS = 25_000;

const gates = new PortGates(callingActivity);
let kiln: Harness;
beforeAll(async () => {
  kiln = await startHarness({
    hostPorts: (ports) => gates.over(ports),
    controlPorts: (ports) => gates.over(ports),
  });
});
afterAll(async () => {
  await kiln.close();
});

/** Each start is counted outside of the guest: in the files of output that the host keeps. */
const counting = (name: string, then: string) => shell(`echo 'started ${name}.'; ${then}`);

async function starts(name: string): Promise<number> {
  return (await outputsBelow(kiln.stateDir)).split(`started ${name}.`).length - 1;
}

it('a run that its guest cannot run fails with what is missing; files and VM stay for the next', async () => {
  const name = threadNamed('older-agent');
  const first = await ran(kiln.sessions, name, 'one', shell('echo kept > note'));
  const older = () => new KilnError('UNSUPPORTED', 'Build the image again.');
  gates.failOnce('sessions.runs.run', 'before', older, { workloadId: name.thread });
  const failed = await ran(kiln.sessions, name, 'two', ['true']);
  expect(failed.outcome).toEqual({ as: 'failed', failure: 'UNSUPPORTED', message: 'Build the image again.' });
  const third = await ran(kiln.sessions, name, 'three', shell('cat note'));
  expect(third).toMatchObject({ outcome: { code: 0 }, vm: first.vm });
});

/** Its image is too old to be saved. */
function cannotSave(name: ThreadName): void {
  const tooOld = () => new KilnError('UNSUPPORTED', 'Build the image again.');
  gates.failOnce('sessions.saves.snapshot', 'before', tooOld, { workloadId: name.thread });
}

describe('a session whose VM ends', () => {
  it('while it waits: goes cold by itself, and tells the next run what is lost, where nothing was saved', async () => {
    const name = threadNamed('dies-warm');
    cannotSave(name);
    const before = await ran(kiln.sessions, name, 'one', shell('echo kept > note'));
    await untilTier(kiln.sessions, name, 'warm');
    await killVm(kiln, name);
    const { state } = await untilTier(kiln.sessions, name, 'cold');
    expect(state?.runs.lost).toMatchObject({ afterTurn: 1, reason: expect.stringContaining('SIGKILL') });
    expect(state?.events.at(-1)).toMatchObject({ of: 'tier', to: 'cold', cause: { code: 'VM_DIED' } });
    const after = await ran(kiln.sessions, name, 'two', shell('test ! -e note'));
    expect(after).toMatchObject({ turn: 2, outcome: { code: 0 }, lost: { afterTurn: 1 } });
    expect(after.vm?.vmId).not.toBe(before.vm?.vmId);
    expect(await ran(kiln.sessions, name, 'three', ['true'])).not.toHaveProperty('lost');
  });

  it('before its first run: files that were written are told as lost, too', async () => {
    const name = threadNamed('dies-with-files');
    cannotSave(name);
    const put = async () => undefined;
    await kiln.sessions.hold(name, { kind: 'writeFiles', waitMs: 20_000 }, put);
    await untilTier(kiln.sessions, name, 'warm');
    await killVm(kiln, name);
    await untilTier(kiln.sessions, name, 'cold');
    expect(await ran(kiln.sessions, name, 'one', ['true'])).toMatchObject({ turn: 1, lost: { afterTurn: 0 } });
    expect(await ran(kiln.sessions, name, 'two', ['true'])).not.toHaveProperty('lost');
  });

  it('in a run: the run fails, and the next one begins in another VM', async () => {
    const name = threadNamed('dies-hot');
    await kiln.sessions.send(name, { id: 'one', command: counting('dies-hot', 'sleep 1000') });
    await kiln.sessions.send(name, { id: 'two', command: ['true'] });
    const stuck = (step: string) => () => new Error(`it is stuck: ${step}`);
    await inTime(untilRun(kiln.sessions, name, 'one', 'running'), STUCK_AFTER_MS, stuck('the run begins'));
    await inTime(started('dies-hot'), STUCK_AFTER_MS, stuck('its output comes'));
    await killVm(kiln, name);
    const one = inTime(ended(kiln.sessions, name, 'one'), STUCK_AFTER_MS, stuck('the run ends with its VM'));
    expect(await one).toMatchObject({ outcome: { as: 'failed', failure: 'VMM_EXITED' } });
    expect(await ended(kiln.sessions, name, 'two')).toMatchObject({ outcome: { code: 0 }, lost: { afterTurn: 1 } });
    expect(await starts('dies-hot')).toBe(1);
  });

  it('in a run that may be repeated: it runs again, at most twice', async () => {
    const name = threadNamed('dies-again');
    const command = counting('dies-again', 'sleep 1000');
    await kiln.sessions.send(name, { id: 'one', command, repeatable: true });
    for (const n of [1, 2, 3]) {
      while ((await starts('dies-again')) < n) await delay(20);
      await killVm(kiln, name);
    }
    const run = await ended(kiln.sessions, name, 'one');
    expect(run).toMatchObject({ turn: 1, outcome: { failure: 'VMM_EXITED' } });
    expect(await starts('dies-again')).toBe(3);
    // Its output is that of the last try, also in the store, where the others have been brought, too.
    const outputs = createRunOutputs(kiln.store);
    const of = { session: { ...name, incarnation: 1 }, runId: 'one', vmId: run.vm?.vmId ?? '' };
    const stored = async () => {
      const pieces = await outputs.read(of, 0);
      return pieces.map((piece) => (piece.kind === 'data' ? piece.data.toString() : 'gap')).join('');
    };
    await expect.poll(stored, { timeout: 20_000 }).toBe('started dies-again.\n');
  });
});

it('a run that is cancelled between two of its VMs is not repeated', async () => {
  const name = threadNamed('cancelled-between');
  const command = counting('cancelled-between', 'sleep 1000');
  await kiln.sessions.send(name, { id: 'one', command, repeatable: true });
  while ((await starts('cancelled-between')) < 1) await delay(20);
  const release = gates.hold('vms.release', 'before', { workloadId: name.thread });
  await killVm(kiln, name);
  await release.reached;
  await kiln.sessions.cancel(name, 'one');
  release.release();
  expect(await ended(kiln.sessions, name, 'one')).toMatchObject({ outcome: { as: 'cancelled' } });
  expect(await ran(kiln.sessions, name, 'two', ['true'])).toMatchObject({ outcome: { code: 0 } });
  expect(await starts('cancelled-between')).toBe(1);
});

describe('a session whose workflow is gone', () => {
  it('is closed for senders where it was terminated', async () => {
    const name = threadNamed('terminated');
    await ran(kiln.sessions, name, 'one', ['true']);
    await recorded(kiln.runRecords, name, 'one');
    await kiln.temporal.workflow.getHandle(idOf(name)).terminate('by a test');
    await expect(kiln.sessions.send(name, { id: 'two', command: ['true'] })).rejects.toMatchObject({
      code: 'SESSION_CLOSED',
    });
    await kiln.sessions.send(name, { id: 'two', command: ['true'], ifEnded: 'restart' });
    expect(await ended(kiln.sessions, name, 'two')).toMatchObject({ turn: 2, outcome: { code: 0 } });
  });
});

describe('a session that waits', () => {
  it('is in the list that its host asks Temporal for, so that it costs no call of its own', async () => {
    const name = threadNamed('listed');
    const { vm } = await ran(kiln.sessions, name, 'one', ['true']);
    const owner = (await createInstanceStore(kiln.stateDir).read(vm?.vmId ?? ''))?.owner;
    const lookup = createOwnerLookup({ client: kiln.temporal, namespaceId: 'any', hostId: 'h1' });
    const listed = async () => (await lookup.openHere?.())?.get(idOf(name));
    const { firstExecutionId, epoch } = { ...owner };
    expect(firstExecutionId).toBeTypeOf('string');
    await expect.poll(listed, { timeout: 20_000 }).toEqual({ firstExecutionId, epoch });
  });

  it('holds no CPU of its host, and wakes in its turn once there is room again', async () => {
    // A session of an earlier test that comes to rest only now would make room in the middle.
    await closeAll(kiln.sessions);
    const [first, second] = [threadNamed('rests-first'), threadNamed('rests-second')];
    for (const name of [first, second]) {
      await ran(kiln.sessions, name, 'one', ['true']);
      await untilTier(kiln.sessions, name, 'warm');
    }
    const { free } = await kiln.host.ledger.totals();
    const taken = (vcpus: number) =>
      kiln.host.ledger.reserve({
        id: 'all-of-it',
        ownerWorkflowId: 'workload/takes-all',
        resources: { vcpus, memMib: 1 },
        ttlMs: 60_000,
      });
    const all = free.vcpus;
    expect(await taken(all)).toBe(true);
    for (const name of [first, second]) {
      await kiln.sessions.send(name, { id: 'two', command: ['true'] });
      await untilEvent(name, 'NO_ROOM');
    }
    expect((await kiln.sessions.get(second)).state?.events.at(-1)?.cause.detail).toContain('1 wait before it');
    expect((await kiln.sessions.run(first, 'two')).run.state).toBe('waiting');
    // Room for one: not for a newcomer, nor for the second before the first.
    expect(await taken(all - 1)).toBe(true);
    const resources = { vcpus: 1, memMib: 1 };
    const newcomer = { id: 'newcomer', ownerWorkflowId: 'workload/newcomer', resources, ttlMs: 60_000 };
    expect(await kiln.host.ledger.reserve(newcomer)).toBe(false);
    const [one, two] = await Promise.all([first, second].map((name) => ended(kiln.sessions, name, 'two')));
    expect([one?.outcome, two?.outcome]).toMatchObject([{ code: 0 }, { code: 0 }]);
    expect(Date.parse(one?.startedAt ?? '')).toBeLessThan(Date.parse(two?.startedAt ?? ''));
    await kiln.host.ledger.release('all-of-it');
  });
});

describe('a session whose host is in trouble', () => {
  const trouble = { id: 'one', command: ['true'] };

  it('keeps its VM and its files, whatever fails: a pause, a wake, a run', async () => {
    const name = threadNamed('in-trouble');
    const fails = (port: string) =>
      gates.failOnce(port, 'before', () => new Error('a defect'), { workloadId: name.thread });
    const { reached } = fails('sessions.vms.pause');
    const first = await ran(kiln.sessions, name, 'one', shell('echo kept > note'));
    await reached;
    await untilTier(kiln.sessions, name, 'warm');
    fails('sessions.vms.resume');
    await kiln.sessions.send(name, { ...trouble, id: 'two' });
    expect(await ended(kiln.sessions, name, 'two')).toMatchObject({ outcome: { as: 'failed', failure: 'INTERNAL' } });
    fails('sessions.vms.setEgress');
    await kiln.sessions.send(name, { ...trouble, id: 'three' });
    expect(await ended(kiln.sessions, name, 'three')).toMatchObject({ outcome: { as: 'failed', failure: 'INTERNAL' } });
    const last = await ran(kiln.sessions, name, 'four', shell('grep kept note'));
    expect(last).toMatchObject({ outcome: { code: 0 }, vm: first.vm });
    expect(last).not.toHaveProperty('lost');
  });

  it('kills what still goes on of a run that failed', async () => {
    const name = threadNamed('goes-on');
    gates.failOnce('sessions.runs.run', 'after', () => new Error('a defect'), { workloadId: name.thread });
    const held = gates.hold('sessions.runs.run', 'before', { workloadId: name.thread });
    await kiln.sessions.send(name, trouble);
    await held.reached;
    held.release();
    expect(await ended(kiln.sessions, name, 'one')).toMatchObject({ outcome: { as: 'failed', failure: 'INTERNAL' } });
    expect(await ran(kiln.sessions, name, 'two', ['true'])).toMatchObject({ outcome: { code: 0 } });
  });

  it('is closed although the store is away where a run of it waits for the store', async () => {
    const name = threadNamed('waits-for-store');
    await ran(kiln.sessions, name, 'one', ['true']);
    await recorded(kiln.runRecords, name, 'one');
    await kiln.sessions.close(name, { waitMs: 20_000 });
    const held = gates.hold('sessionBooks.runs.read', 'before', { workloadId: name.thread });
    await kiln.sessions.send(name, { ...trouble, id: 'two', ifEnded: 'restart' });
    await kiln.sessions.send(name, trouble);
    await held.reached;
    expect((await kiln.sessions.close(name, { waitMs: 20_000 })).settled).toBe(true);
    held.release();
  });
});

describe('a session that lives long', () => {
  it('continues as new between runs, with everything that it knows', async () => {
    const name = threadNamed('long');
    await kiln.sessions.create(name, {});
    const sessions = kiln.sessionsWith({ session: { continueAfter: 100, continueAnywayAfter: 150, settleMs: 10 } });
    const ids = Array.from({ length: 30 }, (_, n) => `run-${n}`);
    for (const id of ids.slice(0, 15)) await ran(sessions, name, id, counting('long', 'true'));
    // Without a pause, too.
    for (const id of ids.slice(15)) await sessions.send(name, { id, command: counting('long', 'true') });
    const runs: EndedRun[] = [];
    for (const id of ids) runs.push(await ended(sessions, name, id));
    expect(runs.map(({ turn }) => turn)).toEqual(ids.map((_, n) => n + 1));
    expect(new Set(runs.map(({ vm }) => vm?.vmId)).size).toBe(1);
    for (const id of ids) await sessions.send(name, { id, command: counting('long', 'true') });
    expect(await starts('long')).toBe(ids.length);
    const first = (await kiln.temporal.workflow.getHandle(idOf(name)).describe()).raw.workflowExecutionInfo;
    expect(first?.firstRunId).not.toBe(first?.execution?.runId);
  });

  it('takes changed settings at once, and goes on with them', async () => {
    const name = threadNamed('changed');
    await ran(kiln.sessions, name, 'one', ['true']);
    const { state } = await kiln.sessions.patch(name, { egress: ['api.example.com:443'], tiers: { ttlMs: 5_000 } });
    expect(state?.settings).toMatchObject({ egress: ['api.example.com:443'], tiers: { ttlMs: 5_000 } });
    expect(state?.events).toContainEqual(
      expect.objectContaining({ of: 'settings', fields: ['egress', 'tiers'], cause: { code: 'PATCHED' } }),
    );
    await kiln.temporal.workflow.getHandle(idOf(name)).result();
    expect((await kiln.sessions.get(name)).record.end).toMatchObject({ as: 'expired' });
  });
});

it('leaves nothing, and histories that replay', async () => {
  await closeAll(kiln.sessions);
  while ((await kiln.left()).length > 0) await delay(100);
  await kiln.judge();
});

const idOf = (name: ThreadName) => sessionWorkflowId({ ...name, incarnation: 1 });

async function untilEvent(name: ThreadName, cause: string): Promise<void> {
  for (;;) {
    const { state } = await kiln.sessions.get(name);
    if (state?.events.some((event) => event.cause.code === cause)) return;
    await delay(20);
  }
}

async function started(name: string): Promise<void> {
  while ((await starts(name)) < 1) await delay(20);
}
