import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KilnError } from '../../../domain/failures.ts';
import { callingActivity } from '../../support/workers/calling-activity.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { PortGates } from '../../support/workers/port-gates.ts';

/** Waits until a check holds; the time-out of the test is the deadline. */
async function eventually<T>(look: () => Promise<T>, holds: (value: T) => boolean): Promise<T> {
  for (;;) {
    const value = await look();
    if (holds(value)) return value;
    await delay(50);
  }
}

describe('a host worker', () => {
  const gates = new PortGates(callingActivity);
  let kiln: Harness;
  beforeAll(async () => {
    kiln = await startHarness({
      hostPorts: (ports) => gates.over(ports),
      policies: {
        placement: { deadlineMs: 5_000, backoffMs: 20, maxBackoffMs: 100, reservationTtlMs: 1_000 },
        host: { scheduleToStartMs: 1_000, lostAfterMs: 1_500, recheckMs: 100 },
        leave: { graceMs: 500, startToCloseMs: 5_000, heartbeatMs: 1_500, scheduleToCloseMs: 3_000 },
        supervise: { backoffMs: 20, maxBackoffMs: 100, heartbeatMs: 1_000, settleMs: 1_000, continueAfter: 1 },
      },
    });
  });
  afterAll(() => kiln.close());

  it('that is started again finds its VMs: same process, same port, and a stop works', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'adopted');
    const before = await kiln.untilStage('adopted', 'running');
    await kiln.restartHost();
    expect((await fetch(before.vm?.url ?? '')).status).toBe(200);
    const after = await kiln.untilStage('adopted', 'running');
    expect(after.vm).toEqual(before.vm);
    const { snapshot } = await kiln.workloads.stop('adopted', { waitMs: 20_000 });
    expect(snapshot.state).toMatchObject({ stage: 'stopped', unreleased: [] });
    expect(await kiln.left([before.vm?.port ?? 0])).toEqual([]);
  });

  it('whose supervisor fails is watched anew, by a new execution once there were enough of them', async () => {
    const fault = () => new KilnError('INTERNAL', 'a fault of the watcher');
    gates.failOnce('vms.waitExit', 'before', fault, { workloadId: 'continued' });
    await kiln.workloads.create({ servicePath: 'plain' }, 'continued');
    await kiln.untilStage('continued', 'running');
    const handle = kiln.temporal.workflow.getHandle('workload/continued');
    await eventually(
      () => handle.describe(),
      ({ raw }) => raw.workflowExecutionInfo?.firstRunId !== raw.workflowExecutionInfo?.execution?.runId,
    );
    const { snapshot } = await kiln.workloads.stop('continued', { waitMs: 20_000 });
    expect(snapshot.state).toMatchObject({ stage: 'stopped', exit: { reason: 'stopped' } });
    const history = await kiln.workloads.history('continued');
    expect(history.stages).toEqual(['pending', 'validate', 'build', 'deploy', 'running', 'stopped']);
    expect(await kiln.left()).toEqual([]);
  });

  it('whose store is away again and again in the middle of a build makes it anew until it is there', async () => {
    for (const port of ['vms.provision', 'vms.boot', 'builds.save']) {
      const away = () => new KilnError('STORE_UNAVAILABLE', 'the store was away');
      gates.failOnce(port, 'before', away, { workloadId: 'outages' });
    }
    // With an environment of its own, so that it cannot reuse the build of another test.
    await kiln.workloads.create(
      { servicePath: 'waits-in-build', env: { BUILD_FOR: 'outages', BUILD_MS: '0' } },
      'outages',
    );
    const { notes } = await kiln.untilStage('outages', 'running');
    expect(notes).toEqual(Array.from({ length: 3 }, () => 'build is tried anew: the store was away'));
    await kiln.workloads.stop('outages', { waitMs: 20_000 });
    expect(await kiln.left()).toEqual([]);
  });

  it('that never comes back is lost: HOST_LOST, what it holds is shown, and freed when it does come back', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'lost');
    await kiln.untilStage('lost', 'running');
    await kiln.stopHost();
    const state = await kiln.untilStage('lost', 'failed');
    expect(state.failure).toMatchObject({ code: 'HOST_LOST', stage: 'running' });
    expect(state.unreleased).toMatchObject([{ hostId: 'h1' }]);
    const { searchAttributes } = await kiln.temporal.workflow.getHandle('workload/lost').describe();
    expect(searchAttributes.KilnAttention).toEqual(['UNRELEASED']);
    expect(await kiln.left()).not.toEqual([]);
    await kiln.startHost();
    expect(
      await eventually(
        () => kiln.left(),
        (lines) => lines.length === 0,
      ),
    ).toEqual([]);
  });

  it('is asked by a cancel in Temporal: cancelled, after everything was released', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'cancelled');
    await kiln.untilStage('cancelled', 'running');
    const handle = kiln.temporal.workflow.getHandle('workload/cancelled');
    await handle.cancel();
    await expect(handle.result()).rejects.toThrow();
    expect((await handle.describe()).status.name).toBe('CANCELLED');
    expect((await kiln.workloads.get('cancelled')).state.stage).toBe('stopped');
    expect(await kiln.left()).toEqual([]);
  });

  it('frees by itself what a terminated workload left behind', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'terminated');
    await kiln.untilStage('terminated', 'running');
    await kiln.temporal.workflow.getHandle('workload/terminated').terminate('by an operator');
    const { state } = await kiln.workloads.get('terminated');
    expect(state).toMatchObject({ stage: 'failed', failure: { code: 'TERMINATED' } });
    expect(
      await eventually(
        () => kiln.left(),
        (lines) => lines.length === 0,
      ),
    ).toEqual([]);
  });

  it('left only lawful histories that replay', async () => {
    expect((await kiln.judge()).map(({ workloadId }) => workloadId)).toContain('continued');
  });
});

describe('capacity', () => {
  let kiln: Harness;
  beforeAll(async () => {
    // Enough for exactly one service.
    kiln = await startHarness({
      capacity: { vcpus: 1, memMib: 1_000 },
      policies: { placement: { deadlineMs: 30_000 } },
    });
  });
  afterAll(() => kiln.close());

  it('is waited for in the open, and taken when it is free', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'first');
    await kiln.untilStage('first', 'running');
    await kiln.workloads.create({ servicePath: 'plain' }, 'second');
    const waiting = await eventually(
      async () => (await kiln.workloads.get('second')).state,
      (state) => state.waiting !== undefined,
    );
    expect(waiting).toMatchObject({ stage: 'pending', waiting: { reason: expect.stringContaining('full') } });
    await kiln.workloads.stop('first', { waitMs: 20_000 });
    await kiln.untilStage('second', 'running');
    await kiln.workloads.stop('second', { waitMs: 20_000 });
    expect(await kiln.left()).toEqual([]);
  });

  it('of 20 creates at once with one id is used once: one workflow, one VM, one answer', async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => kiln.workloads.create({ servicePath: 'plain' }, 'same')),
    );
    expect(answers.filter(({ created }) => created)).toHaveLength(1);
    expect(new Set(answers.map(({ snapshot }) => snapshot.execution?.executionId)).size).toBe(1);
    const { vm } = await kiln.untilStage('same', 'running');
    expect((await kiln.left()).filter((line) => line.startsWith('VM directory'))).toEqual([
      expect.stringContaining(vm?.vmId ?? ''),
    ]);
    await expect(kiln.workloads.create({ servicePath: 'exits' }, 'same')).rejects.toMatchObject({ code: 'CONFLICT' });
    const { snapshot } = await kiln.workloads.stop('same', { waitMs: 20_000 });
    const later = await kiln.workloads.create({ servicePath: 'plain' }, 'same');
    expect(later).toMatchObject({ created: false, snapshot: { state: snapshot.state } });
    expect(await kiln.left()).toEqual([]);
  });
});

describe('without room for it in time', () => {
  it('a workload fails NO_CAPACITY with the reason it waited for', async () => {
    const kiln = await startHarness({ withHost: false, policies: { placement: { deadlineMs: 300 } } });
    try {
      await kiln.workloads.create({ servicePath: 'plain' }, 'nowhere');
      const state = await kiln.untilStage('nowhere', 'failed');
      expect(state.failure).toMatchObject({
        code: 'NO_CAPACITY',
        message: expect.stringContaining('kiln worker host'),
      });
      await kiln.judge();
    } finally {
      await kiln.close();
    }
  });
});
