/** What of a workspace outlives its VM, its host's memory, its workflow, and what a session gives up when it is idle. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KilnError } from '../../../domain/failures.ts';
import { sessionWorkflowId, storeKeys, type ThreadName } from '../../../domain/names.ts';
import { writeHostDrain } from '../../../store/hosts/host-drains.ts';
import { callingActivity } from '../../support/workers/calling-activity.ts';
import { FAST_SESSIONS, type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { PortGates } from '../../support/workers/port-gates.ts';
import { untilSaved as savedIn, writeBeside } from '../../support/workers/save-steps.ts';
import {
  closeAll,
  ended,
  forget,
  killVm,
  openGate,
  ran,
  recorded,
  shell,
  threadNamed,
  untilTier,
} from '../../support/workers/session-steps.ts';

const idOf = (name: ThreadName) => sessionWorkflowId({ ...name, incarnation: 1 });

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

const untilSaved = (name: ThreadName) => savedIn(kiln, name);
const away = () => new KilnError('STORE_UNAVAILABLE', 'The object store does not answer.');

describe('a workspace', () => {
  it('outlives its VM: the next run finds what the last one has left, and nothing is lost', async () => {
    const name = threadNamed('outlives');
    const script = 'mkdir -p a/b; echo one > a/b/note; chmod 700 a/b; ln -s b/note a/link; ln a/b/note hard';
    const first = await ran(kiln.sessions, name, 'one', shell(script));
    expect(await untilSaved(name)).toBe(1);
    await untilTier(kiln.sessions, name, 'warm');
    await killVm(kiln, name);
    const { state } = await untilTier(kiln.sessions, name, 'cold');
    expect(state?.runs).not.toHaveProperty('lost');
    const look = '[ "$(cat a/link)" = one ] && [ "$(stat -c %a a/b)" = 700 ] && [ a/b/note -ef hard ]';
    const second = await ran(kiln.sessions, name, 'two', shell(look));
    expect(second).toMatchObject({ turn: 2, outcome: { code: 0 } });
    expect(second).not.toHaveProperty('lost');
    expect(second.vm?.vmId).not.toBe(first.vm?.vmId);
  });

  it('whose VM dies in a run is as it was before that run; the next one is told', async () => {
    const name = threadNamed('dies-in-run');
    await ran(kiln.sessions, name, 'one', shell('echo kept > note'));
    await untilSaved(name);
    await kiln.sessions.send(name, { id: 'two', command: shell('echo gone > note; echo written; sleep 1000') });
    await writes(name, 'two');
    await killVm(kiln, name);
    expect(await ended(kiln.sessions, name, 'two')).toMatchObject({ outcome: { failure: 'VMM_EXITED' } });
    const third = await ran(kiln.sessions, name, 'three', shell('grep -x kept note'));
    expect(third).toMatchObject({ turn: 3, outcome: { code: 0 }, lost: { afterTurn: 2, restoredTurn: 1 } });
    expect(await ran(kiln.sessions, name, 'four', ['true'])).not.toHaveProperty('lost');
  });

  it('with files that were written beside the runs is saved with them', async () => {
    const name = threadNamed('with-files');
    const write = (text: string) => writeBeside(kiln, name, 'note', text);
    await write('before');
    expect(await untilSaved(name)).toBe(0);
    await ran(kiln.sessions, name, 'one', ['true']);
    expect(await untilSaved(name)).toBe(1);
    await write('after');
    await untilTier(kiln.sessions, name, 'warm');
    expect(await untilSaved(name)).toBe(1);
    await killVm(kiln, name);
    await untilTier(kiln.sessions, name, 'cold');
    const next = await ran(kiln.sessions, name, 'two', shell('grep -x after note'));
    expect(next).toMatchObject({ turn: 2, outcome: { code: 0 } });
    expect(next).not.toHaveProperty('lost');
  });

  it('is saved although runs come without a pause', async () => {
    const name = threadNamed('no-pause');
    const held = gates.hold('sessions.runs.run', 'before', { workloadId: name.thread });
    await kiln.sessions.send(name, { id: 'run-1', command: ['true'] });
    await held.reached;
    const ids = Array.from({ length: 7 }, (_, n) => `run-${n + 2}`);
    for (const id of ids) await kiln.sessions.send(name, { id, command: ['true'] });
    held.release();
    await ended(kiln.sessions, name, 'run-8');
    expect(await untilSaved(name)).toBe(8);
    const { state } = await kiln.sessions.get(name);
    // After three, six and eight runs.
    expect(state?.saves?.asked).toBe(3);
  });

  it('is saved after a run that did not wait for a save that takes long', async () => {
    const name = threadNamed('given-up');
    const sessions = kiln.sessionsWith({ save: { ...FAST_SESSIONS.save, giveUpMs: 50 } });
    const held = gates.hold('sessions.saves.snapshot', 'before', { workloadId: name.thread });
    await ran(sessions, name, 'one', shell('echo kept > note'));
    await held.reached;
    const two = await ran(sessions, name, 'two', shell('grep -x kept note'));
    expect(two).toMatchObject({ turn: 2, outcome: { code: 0 } });
    held.release();
    await held.finished;
    expect(await untilSaved(name)).toBe(2);
    expect((await kiln.sessions.get(name)).state?.saves).toMatchObject({ asked: 2 });
  });

  it('of a session that Temporal has lost is found again by the next one', async () => {
    const name = threadNamed('forgotten');
    await ran(kiln.sessions, name, 'one', shell('echo kept > note'));
    await recorded(kiln.runRecords, name, 'one');
    await untilSaved(name);
    await untilTier(kiln.sessions, name, 'warm');
    await kiln.temporal.workflow.getHandle(idOf(name)).terminate('by a test');
    await forget(kiln.temporal, idOf(name));
    const second = await ran(kiln.sessions, name, 'two', shell('grep -x kept note'));
    expect(second).toMatchObject({ turn: 2, outcome: { code: 0 } });
    expect(second).not.toHaveProperty('lost');
  });
});

describe('an idle session', () => {
  it('gives up its VM once its workspace is in the store, and has it again with the next run', async () => {
    const name = threadNamed('idle');
    await kiln.sessions.create(name, { tiers: { idleMs: 300 } });
    const first = await ran(kiln.sessions, name, 'one', shell('echo kept > note'));
    const { state } = await untilTier(kiln.sessions, name, 'cold');
    expect(state).not.toHaveProperty('place');
    expect(state?.events.at(-1)).toMatchObject({ of: 'tier', from: 'evicting', to: 'cold', cause: { code: 'IDLE' } });
    expect(await kiln.host.vms.status(first.vm?.vmId ?? '')).toMatchObject({ state: 'gone' });
    for (const id of ['two', 'three']) {
      const next = await ran(kiln.sessions, name, id, shell('grep -x kept note'));
      expect(next).toMatchObject({ outcome: { code: 0 } });
      expect(next).not.toHaveProperty('lost');
      await untilTier(kiln.sessions, name, 'cold');
    }
  });

  it('keeps its VM while the store is away', async () => {
    const name = threadNamed('store-away');
    await kiln.sessions.create(name, { tiers: { idleMs: 100 } });
    const tries = [1, 2, 3].map(() =>
      gates.failOnce('sessions.saves.upload', 'before', away, { workloadId: name.thread }),
    );
    await ran(kiln.sessions, name, 'one', shell('echo kept > note'));
    for (const { reached } of tries) {
      await reached;
      expect((await kiln.sessions.get(name)).state?.tier).not.toBe('cold');
    }
    await untilTier(kiln.sessions, name, 'cold');
    expect(await ran(kiln.sessions, name, 'two', shell('grep -x kept note'))).toMatchObject({ outcome: { code: 0 } });
  });
});

it('a host that drains lets its sessions sleep, those at work after their runs', async () => {
  const [rests, works] = [threadNamed('drained-warm'), threadNamed('drained-hot')];
  await ran(kiln.sessions, rests, 'one', shell('echo kept > note'));
  await untilTier(kiln.sessions, rests, 'warm');
  await kiln.sessions.send(works, {
    id: 'one',
    command: shell('echo written; until [ -e /tmp/open ]; do sleep 0.02; done'),
  });
  await writes(works, 'one');
  const drain = (draining: boolean) =>
    writeHostDrain(kiln.store, { hostId: 'h1', draining, at: new Date().toISOString() });
  await drain(true);
  await untilTier(kiln.sessions, rests, 'cold');
  const { state } = await kiln.sessions.get(works);
  expect(state?.tier).toBe('hot');
  await openGate(kiln.stateDir, state?.place?.vmId ?? '', 'open');
  await untilTier(kiln.sessions, works, 'cold');
  await drain(false);
  expect(await ran(kiln.sessions, rests, 'two', shell('grep -x kept note'))).toMatchObject({ outcome: { code: 0 } });
});

it('a session is saved before it closes', async () => {
  const name = threadNamed('closes');
  await kiln.sessions.send(name, { id: 'one', command: shell('echo kept > note; echo written; sleep 1000') });
  await writes(name, 'one');
  await kiln.sessions.close(name, { waitMs: 20_000 });
  expect(await kiln.store.headBlob(storeKeys.saveHead({ ...name, incarnation: 1 }))).toBeDefined();
});

it('leaves nothing, and histories that replay', async () => {
  await closeAll(kiln.sessions);
  while ((await kiln.left()).length > 0) await delay(100);
  await kiln.judge();
});

/** Waits until a run has written something. */
async function writes(name: ThreadName, runId: string): Promise<void> {
  for (;;) {
    const { run, place } = await kiln.sessions.run(name, runId);
    if (run.state === 'running' && place !== undefined) {
      const output = await kiln.host.sessions.runs
        .readOutput({ vmId: place.vmId, turn: run.run.turn }, 0, 100)
        .catch(none);
      if (output.length > 0) return;
    }
    await delay(20);
  }
}

const none = (): never[] => [];
