/** Callers that use the VM of a session beside its runs. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { HeldSession, SessionClient } from '../../../client/temporal/sessions/session-client.ts';
import { sessionWorkflowId, type ThreadName } from '../../../domain/names.ts';
import { MAX_HOLDS } from '../../../domain/session/holds.ts';
import { holdUpdate, releaseSignal } from '../../../workflows/session/session-messages.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { PortGates } from '../../support/workers/port-gates.ts';
import { closeAll, ended, ran, threadNamed, untilRun, untilTier } from '../../support/workers/session-steps.ts';

const gates = new PortGates();
let kiln: Harness;
beforeAll(async () => {
  kiln = await startHarness({ hostPorts: (ports) => gates.over(ports) });
});
afterAll(async () => {
  await kiln.close();
});

const READ = { kind: 'readFiles', waitMs: 20_000 } as const;
const WRITE = { kind: 'writeFiles', waitMs: 20_000 } as const;
const idOf = (name: ThreadName) => sessionWorkflowId({ ...name, incarnation: 1 });
const vmOf = (held: HeldSession) => held.vmId;
const handleOf = (name: ThreadName) => kiln.temporal.workflow.getHandle(idOf(name));
const holdByHand = (name: ThreadName, id: string) =>
  handleOf(name).executeUpdate(holdUpdate, { args: [{ id, kind: 'readFiles' }] });

describe('a hold', () => {
  it('begins the session of a thread, keeps its VM running, and lets it rest afterwards', async () => {
    const name = threadNamed('first');
    const vmId = await kiln.sessions.hold(name, READ, async (held) => {
      expect(held).toMatchObject({ hostId: 'h1', epoch: 1, workflowId: idOf(name) });
      expect((await kiln.sessions.get(name)).state).toMatchObject({ tier: 'hot', place: { vmId: held.vmId } });
      expect(await kiln.host.vms.status(held.vmId)).toMatchObject({ state: 'running' });
      return held.vmId;
    });
    const { state } = await untilTier(kiln.sessions, name, 'warm');
    expect(state?.events.at(-1)).toMatchObject({ to: 'warm', cause: { code: 'HOLD_ENDED' } });
    expect(await kiln.sessions.hold(name, READ, async (held) => vmOf(held))).toBe(vmId);
    expect(state?.events.find((event) => event.of === 'tier' && event.to === 'restoring')?.cause.code).toBe('HOLD');
  });

  it('uses the VM of a run, and outlives it', async () => {
    const name = threadNamed('beside');
    await kiln.sessions.send(name, { id: 'runs', command: ['sleep', '1000'] });
    const run = await untilRun(kiln.sessions, name, 'runs', 'running');
    await kiln.sessions.hold(name, READ, async (held) => {
      expect(run.run).toMatchObject({ vm: { vmId: held.vmId } });
      await kiln.sessions.cancel(name, 'runs');
      await ended(kiln.sessions, name, 'runs');
      // Whatever is asked next comes after the decision to rest.
      await kiln.sessions.patch(name, { tiers: { idleMs: 5_000 } });
      expect(await kiln.host.vms.status(held.vmId)).toMatchObject({ state: 'running' });
      expect((await kiln.sessions.get(name)).state?.tier).toBe('hot');
    });
    await untilTier(kiln.sessions, name, 'warm');
  });

  it('that comes while the VM is being paused wakes it again', async () => {
    const name = threadNamed('pausing');
    const pause = gates.hold('sessions.vms.pause', 'after');
    await kiln.sessions.send(name, { id: 'one', command: ['true'] });
    await pause.reached;
    const held = kiln.sessions.hold(name, READ, async ({ vmId }) => kiln.host.vms.status(vmId));
    await untilUpdate(name, 'hold');
    pause.release();
    expect(await held).toMatchObject({ state: 'running' });
  });

  it('that is never released ends by itself', async () => {
    const name = threadNamed('forgotten');
    const sessions = kiln.sessionsWith({ session: { holdMs: 300 } });
    await ran(sessions, name, 'one', ['true']);
    await untilTier(sessions, name, 'warm');
    const { vmId } = await holdByHand(name, 'h1');
    expect((await sessions.get(name)).state?.place?.vmId).toBe(vmId);
    await untilTier(sessions, name, 'warm');
  });

  it('is kept for as long as the work takes', async () => {
    const name = threadNamed('kept');
    const sessions = kiln.sessionsWith({ session: { holdMs: 300 } });
    await sessions.hold(name, READ, async ({ vmId }) => {
      await untilUpdate(name, 'hold', 6);
      expect(await kiln.host.vms.status(vmId)).toMatchObject({ state: 'running' });
      expect((await sessions.get(name)).state?.events.some((event) => 'to' in event && event.to === 'warm')).toBe(
        false,
      );
    });
  });

  it('is taken once for each id, and there are only so many', async () => {
    const name = threadNamed('many');
    await ran(kiln.sessions, name, 'one', ['true']);
    for (let n = 0; n < MAX_HOLDS; n++) await holdByHand(name, `h${n}`);
    await holdByHand(name, 'h0');
    await expect(kiln.sessions.hold(name, READ, async () => undefined)).rejects.toMatchObject({ code: 'QUEUE_FULL' });
    await handleOf(name).signal(releaseSignal, { id: 'h0' });
    await kiln.sessions.hold(name, READ, async () => undefined);
    for (let n = 0; n < MAX_HOLDS; n++) await handleOf(name).signal(releaseSignal, { id: `h${n}` });
    await untilTier(kiln.sessions, name, 'warm');
  });

  it('moves the expiry where it is for writing, only', async () => {
    const name = threadNamed('activity');
    await ran(kiln.sessions, name, 'one', ['true']);
    const { state: before } = await untilTier(kiln.sessions, name, 'warm');
    await kiln.sessions.hold(name, READ, async () => undefined);
    expect((await kiln.sessions.get(name)).state?.expiresAtMs).toBe(before?.expiresAtMs);
    await kiln.sessions.hold(name, WRITE, async () => undefined);
    expect((await kiln.sessions.get(name)).state?.expiresAtMs).toBeGreaterThan(before?.expiresAtMs ?? Infinity);
  });

  it('is refused by a session that closes, also one that waits', async () => {
    const name = threadNamed('closing');
    const boot = gates.hold('vms.boot', 'before');
    const waiting = kiln.sessions.hold(name, READ, async () => undefined);
    await boot.reached;
    const closing = kiln.sessions.close(name, { waitMs: 20_000 });
    await expect(waiting).rejects.toMatchObject({ code: 'SESSION_CLOSED' });
    boot.release();
    expect(await closing).toMatchObject({ settled: true });
    await expect(kiln.sessions.hold(name, READ, async () => undefined)).rejects.toMatchObject({
      code: 'SESSION_CLOSED',
    });
  });

  it('says why there is no VM, and the session goes on', async () => {
    const name = threadNamed('no-room');
    await kiln.sessions.create(name, { resources: { vcpus: 64, memMib: 100_000 } });
    await expect(kiln.sessions.hold(name, READ, async () => undefined)).rejects.toMatchObject({ code: 'NO_CAPACITY' });
    await kiln.sessions.patch(name, { resources: { vcpus: 1, memMib: 256 } });
    await kiln.sessions.hold(name, READ, async () => undefined);
  });

  it('does not travel: the session continues as new without one', async () => {
    const name = threadNamed('long');
    const sessions: SessionClient = kiln.sessionsWith({
      session: { continueAfter: 30, continueAnywayAfter: 60, settleMs: 10 },
    });
    for (let n = 0; n < 15; n++) await sessions.hold(name, WRITE, async () => undefined);
    await ran(sessions, name, 'one', ['true']);
    const first = (await handleOf(name).describe()).raw.workflowExecutionInfo;
    expect(first?.firstRunId).not.toBe(first?.execution?.runId);
  });
});

it('leaves nothing, and histories that replay', async () => {
  await closeAll(kiln.sessions);
  while ((await kiln.left()).length > 0) await delay(100);
  await kiln.judge();
});

/** Waits until the workflow has taken so many updates of a name. */
async function untilUpdate(name: ThreadName, update: string, times = 1): Promise<void> {
  for (;;) {
    const { events } = await handleOf(name).fetchHistory();
    const taken = (events ?? []).filter(
      ({ workflowExecutionUpdateAcceptedEventAttributes: accepted }) =>
        accepted?.acceptedRequest?.input?.name === update,
    );
    if (taken.length >= times) return;
    await delay(20);
  }
}
