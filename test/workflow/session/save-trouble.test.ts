/** Saves that fail, come late, or vanish: nothing that could be saved stays unsaved, and nothing spins. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KilnError } from '../../../domain/failures.ts';
import { sessionWorkflowId, shortHash, type ThreadName } from '../../../domain/names.ts';
import { writeHostDrain } from '../../../store/hosts/host-drains.ts';
import { callingActivity } from '../../support/workers/calling-activity.ts';
import { FAST_SESSIONS, type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { PortGates } from '../../support/workers/port-gates.ts';
import { untilSaved, writeBeside } from '../../support/workers/save-steps.ts';
import { closeAll, killVm, ran, shell, threadNamed, untilTier } from '../../support/workers/session-steps.ts';

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

/** Sessions whose failed saves are not tried again by themselves while a test lasts. */
const withoutRetry = () =>
  kiln.sessionsWith({ save: { ...FAST_SESSIONS.save, backoffMs: 600_000, maxBackoffMs: 600_000 } });

const failSaveOnce = ({ thread }: ThreadName, code: 'DISK_FULL' | 'UNSUPPORTED', message: string) =>
  gates.failOnce('sessions.saves.snapshot', 'before', () => new KilnError(code, message), { workloadId: thread });

const causesOf = async (name: ThreadName) =>
  (await kiln.sessions.get(name)).state?.events.map(({ cause }) => cause.code) ?? [];

describe('a save that fails', () => {
  it('is told, holds nobody up, and is made up for by the next one', async () => {
    const name = threadNamed('save-fails');
    const sessions = withoutRetry();
    failSaveOnce(name, 'DISK_FULL', 'No room.');
    await ran(sessions, name, 'one', shell('echo kept > note'));
    const { state } = await untilTier(sessions, name, 'warm');
    expect(state?.events).toContainEqual(
      expect.objectContaining({
        of: 'save',
        turn: 1,
        to: 'failed',
        cause: expect.objectContaining({ code: 'SAVE_FAILED' }),
      }),
    );
    expect(state?.saves).not.toHaveProperty('stored');
    await ran(sessions, name, 'two', ['true']);
    expect(await untilSaved(kiln, name)).toBe(2);
  });

  it('is made up for after files were written', async () => {
    const name = threadNamed('files-after');
    failSaveOnce(name, 'DISK_FULL', 'No room.');
    await withoutRetry().create(name, {});
    await writeBeside(kiln, name, 'first', 'a');
    await untilTier(kiln.sessions, name, 'warm');
    await writeBeside(kiln, name, 'second', 'b');
    expect(await untilSaved(kiln, name)).toBe(0);
  });

  it('is tried again while the session rests, which then rests on', async () => {
    const name = threadNamed('tried-again');
    const tries = [1, 2].map(() => failSaveOnce(name, 'DISK_FULL', 'No room.'));
    await ran(kiln.sessions, name, 'one', shell('echo kept > note'));
    for (const { reached } of tries) await reached;
    expect(await untilSaved(kiln, name)).toBe(1);
    await untilTier(kiln.sessions, name, 'warm');
    expect(await causesOf(name)).toContain('SAVE_AGAIN');
    await kiln.sessions.sleep(name);
    await untilTier(kiln.sessions, name, 'cold');
    expect(await ran(kiln.sessions, name, 'two', shell('grep -x kept note'))).toMatchObject({ outcome: { code: 0 } });
  });

  it('because the image is too old is not tried again, and its session keeps its VM', async () => {
    const name = threadNamed('too-old');
    await kiln.sessions.create(name, { tiers: { idleMs: 100 } });
    failSaveOnce(name, 'UNSUPPORTED', 'Build the image again.');
    await ran(kiln.sessions, name, 'one', ['true']);
    await ran(kiln.sessions, name, 'two', ['true']);
    const { state } = await untilTier(kiln.sessions, name, 'warm');
    expect(state?.saves).toMatchObject({ asked: 1, cannot: 'Build the image again.' });
  });
});

describe('a file that is written beside the runs', () => {
  it('while the VM is given up is saved from the next VM', async () => {
    const name = threadNamed('written-while-evicting');
    await kiln.sessions.create(name, { tiers: { idleMs: 300 } });
    const release = gates.hold('vms.release', 'before', { workloadId: name.thread });
    await ran(kiln.sessions, name, 'one', shell('echo kept > note'));
    await release.reached;
    const written = writeBeside(kiln, name, 'file', 'precious');
    await untilSent(name, 'hold');
    release.release();
    await written;
    expect(await untilSaved(kiln, name)).toBe(1);
    await untilTier(kiln.sessions, name, 'cold');
    const next = await ran(kiln.sessions, name, 'two', shell('grep -x precious file && grep -x kept note'));
    expect(next).toMatchObject({ outcome: { code: 0 } });
    expect(next).not.toHaveProperty('lost');
  });

  it('when its VM has just died is saved from the next VM', async () => {
    const name = threadNamed('written-after-death');
    await ran(kiln.sessions, name, 'one', shell('echo kept > note'));
    await untilSaved(kiln, name);
    await untilTier(kiln.sessions, name, 'warm');
    const resume = gates.hold('sessions.vms.resume', 'before', { workloadId: name.thread });
    const written = writeBeside(kiln, name, 'file', 'precious');
    await resume.reached;
    await killVm(kiln, name);
    resume.release();
    await written;
    expect(await untilSaved(kiln, name)).toBe(1);
    await kiln.sessions.sleep(name);
    await untilTier(kiln.sessions, name, 'cold');
    const next = await ran(kiln.sessions, name, 'two', shell('grep -x precious file && grep -x kept note'));
    expect(next).toMatchObject({ outcome: { code: 0 } });
  });
});

describe('an upload', () => {
  it('whose save is not on its host any more ends, and the workspace is saved anew', async () => {
    const name = threadNamed('spool-gone');
    await ran(kiln.sessions, name, 'one', shell('echo kept > note'));
    await untilSaved(kiln, name);
    const upload = gates.hold('sessions.saves.upload', 'before', { workloadId: name.thread });
    await ran(kiln.sessions, name, 'two', shell('echo more > note'));
    await upload.reached;
    const spool = join(kiln.stateDir, 'saves', shortHash(idOf(name)), '1');
    const saves = (await readdir(spool)).filter((saveId) => saveId.startsWith('1-2-'));
    for (const saveId of saves) await rm(join(spool, saveId, 'save.json'));
    upload.release();
    expect(await untilSaved(kiln, name)).toBe(2);
    const { historyLength } = await kiln.temporal.workflow.getHandle(idOf(name)).describe();
    expect([saves.length, historyLength < 250]).toEqual([1, true]);
  });

  it('of an earlier VM that ends late takes nothing from the present one', async () => {
    const name = threadNamed('late-upload');
    const sessions = kiln.sessionsWith({ save: { ...FAST_SESSIONS.save, lastUploadMs: 100 } });
    await ran(sessions, name, 'one', shell('echo kept > note'));
    await untilSaved(kiln, name);
    const upload = gates.hold('sessions.saves.upload', 'before', { workloadId: name.thread });
    await ran(sessions, name, 'two', shell('echo lost > note'));
    await upload.reached;
    await untilTier(sessions, name, 'warm');
    await killVm(kiln, name);
    await untilTier(sessions, name, 'cold');
    await ran(sessions, name, 'three', shell('echo three > note'));
    const { state } = await untilTier(sessions, name, 'warm');
    expect(state?.saves).toMatchObject({ spooled: { turn: 3 }, stored: { turn: 1 } });
    upload.release();
    expect(await untilSaved(kiln, name)).toBe(3);
    expect((await sessions.get(name)).state?.saves?.asked).toBe(state?.saves?.asked);
    await sessions.sleep(name);
    await untilTier(sessions, name, 'cold');
  });
});

it('a session whose VM starts on a draining host sleeps after its run', async () => {
  const name = threadNamed('drained-while-booting');
  const boot = gates.hold('vms.boot', 'after', { workloadId: name.thread });
  await kiln.sessions.send(name, { id: 'one', command: ['true'] });
  await boot.reached;
  const drain = (draining: boolean) =>
    writeHostDrain(kiln.store, { hostId: 'h1', draining, at: new Date().toISOString() });
  await drain(true);
  await untilSent(name, 'sleep');
  boot.release();
  await untilTier(kiln.sessions, name, 'cold');
  await drain(false);
});

it('leaves nothing, and histories that replay', async () => {
  await closeAll(kiln.sessions);
  while ((await kiln.left()).length > 0) await delay(100);
  await kiln.judge();
});

const idOf = (name: ThreadName) => sessionWorkflowId({ ...name, incarnation: 1 });

/** Waits until a signal or an update with this name has come to the session's workflow. */
async function untilSent(name: ThreadName, message: string): Promise<void> {
  const handle = kiln.temporal.workflow.getHandle(idOf(name));
  for (;;) {
    const { events } = await handle.fetchHistory();
    const names = events?.flatMap((event) => [
      event.workflowExecutionSignaledEventAttributes?.signalName,
      event.workflowExecutionUpdateAcceptedEventAttributes?.acceptedRequest?.input?.name,
    ]);
    if (names?.includes(message) === true) return;
    await delay(20);
  }
}
