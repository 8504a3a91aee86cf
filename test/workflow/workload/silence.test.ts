/** Workloads whose host or control workers do not answer: Kiln waits for them, but not forever. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ControlPorts } from '../../../activities/control-activities.ts';
import { reservationId, workloadWorkflowId } from '../../../domain/names.ts';
import { callingActivity } from '../../support/workers/calling-activity.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { PortGates } from '../../support/workers/port-gates.ts';

const STOP = { waitMs: 20_000 };
/** A service with an environment of its own, so that it cannot reuse the build of another test. */
const building = (id: string) => ({ servicePath: 'waits-in-build', env: { BUILD_FOR: id, BUILD_MS: '0' } });

/**
 * Waits until one of the workloads, in its first placement, has lost its reservation. The host's own sweep may remove it
 * as well as this. That of the one that builds stays as soon as its builder is there, so it may be lost, too.
 * @returns that workload
 */
async function untilOneHasNoPlace({ host }: Harness, ids: readonly string[]): Promise<string> {
  for (;;) {
    await host.ledger.prune();
    const held = (await host.ledger.list()).map(({ id }) => id);
    const lost = ids.find((id) => !held.includes(reservationId(workloadWorkflowId(id), 1)));
    if (lost !== undefined) return lost;
    await delay(20);
  }
}

describe('a workload', () => {
  const gates = new PortGates(callingActivity);
  /** How the control workers see the age of a host's entry. */
  let registry: 'as it is' | 'always fresh' | 'without entries' = 'as it is';
  let kiln: Harness;

  const told = (ports: ControlPorts): ControlPorts => ({
    ...ports,
    hosts: {
      list: () => ports.hosts.list(),
      async read(hostId) {
        const entry = registry === 'without entries' ? undefined : await ports.hosts.read(hostId);
        return entry !== undefined && registry === 'always fresh' ? { ...entry, at: new Date().toISOString() } : entry;
      },
    },
  });

  beforeAll(async () => {
    kiln = await startHarness({
      hostPorts: (ports) => gates.over(ports),
      controlPorts: (ports) => gates.over(told(ports)),
      policies: {
        control: { startToCloseMs: 400, scheduleToCloseMs: 800 },
        placement: { deadlineMs: 60_000, backoffMs: 20, maxBackoffMs: 100, reservationTtlMs: 1_000 },
        host: { scheduleToStartMs: 500, lostAfterMs: 1_500, recheckMs: 300, outageTries: 2 },
        deploy: { heartbeatMs: 1_000 },
        supervise: { backoffMs: 20, maxBackoffMs: 100, heartbeatMs: 1_000, settleMs: 1_000 },
        leave: { graceMs: 500, startToCloseMs: 5_000, heartbeatMs: 1_500, scheduleToCloseMs: 3_000 },
      },
    });
  });
  afterEach(() => {
    registry = 'as it is';
  });
  afterAll(() => kiln.close());

  /** Keeps the next build from its end. */
  const holdBuild = () => gates.hold('builds.save', 'before', { activity: 'buildService' });
  const nothingLeft = () => expect.poll(() => kiln.left()).toEqual([]);

  it('is placed once control workers answer again, however often they did not', async () => {
    const silent = [1, 2, 3, 4].map(() => gates.hold('hosts.list', 'before'));
    await kiln.workloads.create({ servicePath: 'plain' }, 'patient');
    // These are more silent tries than fit into one call: the call is given up as a whole, and made again.
    for (const { reached } of silent) await reached;
    const { stage } = await kiln.untilStage('patient', 'running');
    expect(stage).toBe('running');
    for (const { release } of silent) release();
    await kiln.workloads.stop('patient', STOP);
    await nothingLeft();
  });

  it('whose host registers and takes no calls loses it, in the middle of its boot too', async () => {
    const provisioning = gates.hold('vms.provision', 'before', { workloadId: 'deaf' });
    await kiln.workloads.create({ servicePath: 'plain' }, 'deaf');
    await provisioning.reached;
    registry = 'always fresh';
    await kiln.stopHost();
    const { failure } = await kiln.untilStage('deaf', 'failed');
    expect(failure).toMatchObject({ code: 'HOST_LOST', stage: 'deploy', message: expect.stringContaining('Temporal') });
    provisioning.release();
    await kiln.startHost();
    await nothingLeft();
  });

  it('whose host has no entry any more loses it', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'orphan');
    await kiln.untilStage('orphan', 'running');
    registry = 'without entries';
    await kiln.stopHost();
    expect((await kiln.untilStage('orphan', 'failed')).failure).toMatchObject({ code: 'HOST_LOST', stage: 'running' });
    await kiln.startHost();
    await nothingLeft();
  });

  it('whose place was given up while it waited for its build asks for it again before it boots', async () => {
    const held = async () => (await kiln.host.ledger.list()).map(({ id }) => id).sort();
    const build = holdBuild();
    for (const id of ['first', 'second']) await kiln.workloads.create(building('one-key'), id);
    await Promise.all(['first', 'second'].map((id) => kiln.untilStage(id, 'build')));
    // One builds, the other waits for that build, and the reservation of the other expires.
    await untilOneHasNoPlace(kiln, ['first', 'second']);
    build.release();
    await Promise.all(['first', 'second'].map((id) => kiln.untilStage(id, 'running')));
    expect(await held()).toHaveLength(2);
    for (const id of ['first', 'second']) await kiln.workloads.stop(id, STOP);
    await nothingLeft();
  });

  it('whose place another has by then is placed anew', async () => {
    const build = holdBuild();
    for (const id of ['builds', 'waits']) await kiln.workloads.create(building('other-key'), id);
    await Promise.all(['builds', 'waits'].map((id) => kiln.untilStage(id, 'build')));
    const lost = await untilOneHasNoPlace(kiln, ['builds', 'waits']);
    // A call that takes long is made again: none of them may come to the ledger before its room is taken.
    const again = Array.from({ length: 20 }, () =>
      gates.hold('ledger.reserve', 'before', { activity: 'reserveCapacity', workloadId: lost }),
    );
    build.release();
    await again[0]?.reached;
    await again[1]?.reached;
    const { free } = await kiln.host.ledger.totals();
    const taken = { id: 'taken', ownerWorkflowId: 'other', resources: { ...free, vcpus: 1 }, ttlMs: 600_000 };
    expect(await kiln.host.ledger.reserve(taken)).toBe(true);
    for (const { release } of again) release();
    await expect.poll(async () => (await kiln.workloads.get(lost)).state.waiting?.reason).toContain('full');
    await kiln.host.ledger.release('taken');
    expect((await kiln.untilStage(lost, 'running')).vm).toMatchObject({ epoch: 2 });
    for (const id of ['builds', 'waits']) await kiln.workloads.stop(id, STOP);
    await nothingLeft();
  });

  it('left only lawful histories that replay', async () => {
    expect(await kiln.judge()).toHaveLength(7);
  });
});

describe('a host that two services fill', () => {
  it('builds one in the place of the other, and runs both with a place of their own', async () => {
    const gates = new PortGates(callingActivity);
    const kiln = await startHarness({
      hostPorts: (ports) => gates.over(ports),
      // Room for two services, or for one and a builder: if both kept their place, none could ever be built.
      capacity: { vcpus: 8, memMib: 2_600 },
      policies: {
        placement: { deadlineMs: 60_000, backoffMs: 20, maxBackoffMs: 100, reservationTtlMs: 1_000 },
      },
    });
    try {
      const build = gates.hold('builds.save', 'before', { activity: 'buildService' });
      for (const id of ['a', 'b']) await kiln.workloads.create(building('of-both'), id);
      await Promise.all(['a', 'b'].map((id) => kiln.untilStage(id, 'build')));
      await untilOneHasNoPlace(kiln, ['a', 'b']);
      build.release();
      await Promise.all(['a', 'b'].map((id) => kiln.untilStage(id, 'running')));
      expect((await kiln.host.ledger.list()).length).toBe(2);
      for (const id of ['a', 'b']) await kiln.workloads.stop(id, STOP);
      expect(await kiln.left()).toEqual([]);
      await kiln.judge();
    } finally {
      await kiln.close();
    }
  });
});
