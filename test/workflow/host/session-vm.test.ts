/** A VM that belongs to a session: everything that its host does for a workload's VM, it does for this one too. */
import { fileURLToPath } from 'node:url';
import { Worker } from '@temporalio/worker';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CONTROL_QUEUE } from '../../../domain/names.ts';
import type { OwnerRef } from '../../../domain/owner.ts';
import { bundleWorkflows } from '../../../temporal/workflow-bundle.ts';
import { createInstanceStore } from '../../../vmm/instance-record.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';

const WORKFLOWS = fileURLToPath(new URL('../../support/workers/session-vm-workflow.ts', import.meta.url));
const RELEASED: OwnerRef = { kind: 'session', id: 'default/Thread.1/1', epoch: 1 };
const NEVER_MS = 3_600_000;
const HOST = 'h1';
const LATER: OwnerRef = { kind: 'session', id: 'default/Thread.1/3', epoch: 1 };
const ENDED: OwnerRef = { kind: 'session', id: 'default/Thread.1/2', epoch: 1 };

let kiln: Harness;
beforeAll(async () => {
  kiln = await startHarness({
    workflowsPath: WORKFLOWS,
    // Only the tests sweep. A sweep by the host, between a first line and its VM, would remove the log as unused.
    hostSettings: {
      logs: { pruneAfterMs: 0, keepShippedBytes: 1_000_000 },
      sweep: { graceMs: 500, everyMs: NEVER_MS },
    },
  });
  // Wait for the sweep of the start.
  await kiln.host.sweep();
});
afterAll(() => kiln.close());

const workflowIdOf = ({ kind, id }: OwnerRef) => `${kind}/${id}`;
const lines = (log: OwnerRef) => kiln.host.logs.read(log, -1, 100);
const handleOf = (owner: OwnerRef) => kiln.temporal.workflow.getHandle(workflowIdOf(owner));

/** Starts the workflow of a session. @returns its VM, once the session is hot */
async function startSession(owner: OwnerRef): Promise<string> {
  await kiln.temporal.workflow.start('sessionVmWorkflow', {
    workflowId: workflowIdOf(owner),
    taskQueue: CONTROL_QUEUE,
    args: [],
  });
  await expect
    .poll(async () => (await handleOf(owner).describe()).searchAttributes['KilnTier'], { interval: 20 })
    .toEqual(['hot']);
  const [vmId = ''] = await vmsOf(owner);
  return vmId;
}

async function vmsOf(owner: OwnerRef): Promise<string[]> {
  const records = createInstanceStore(kiln.stateDir);
  const found = await Promise.all((await records.list()).map((vmId) => records.read(vmId)));
  return found.flatMap((vm) => (vm?.owner.workflowId === workflowIdOf(owner) ? [vm.vmId] : []));
}

describe('the VM of a session', () => {
  it('is placed, booted, logged and metered', async () => {
    const vmId = await startSession(RELEASED);
    // A line can be read when it is safe on disk, a moment after the activity that wrote it.
    await expect
      .poll(async () => (await lines(RELEASED)).map(({ stage, message }) => `${stage}: ${message.split(' ')[0]}`), {
        interval: 20,
      })
      .toEqual(['restoring: disks', 'restoring: VM']);
    expect(await kiln.host.metrics.registry.metrics()).toContain(
      'kiln_host_workload_memory_bytes{workload="session/default/Thread.1/1",role="session"}',
    );
    expect(kiln.host.vms.isAttached(vmId)).toBe(true);
  });

  it('is adopted by the next host worker, and keeps its log as long as it lives', async () => {
    const [vmId = ''] = await vmsOf(RELEASED);
    await kiln.restartHost();
    await expect.poll(() => kiln.host.vms.isAttached(vmId), { interval: 20 }).toBe(true);
    await kiln.host.logs.ship(RELEASED);
    await kiln.host.sweep();
    expect(await vmsOf(RELEASED)).toEqual([vmId]);
    expect(await kiln.host.logs.epochs(RELEASED)).toEqual([1]);
  });

  it('answers no call of another workflow, nor of a later one with the same id, and is released by none', async () => {
    const calls = ['bootVm', 'startService', 'checkHealth', 'superviseVm', 'stopService', 'runTurn', 'cancelRun'];
    const names = [...calls, 'pauseVm', 'resumeVm', 'setEgress', 'releaseVm'];
    const refused = [...names.slice(1).map(() => 'CONFLICT'), { released: [] }];
    const called = (vmId: string, workflowId: string) =>
      kiln.temporal.workflow.execute('callHostWorkflow', {
        workflowId,
        taskQueue: CONTROL_QUEUE,
        args: [HOST, names, vmId],
      });
    const [vmId = ''] = await vmsOf(RELEASED);
    expect(await called(vmId, 'session/default/stranger/1')).toEqual(refused);
    expect(await vmsOf(RELEASED)).toEqual([vmId]);
    const earlier = await startSession(LATER);
    await handleOf(LATER).terminate('so that another may have its id');
    expect(await called(earlier, workflowIdOf(LATER))).toEqual(refused);
    expect(await vmsOf(LATER)).toEqual([earlier]);
  });

  it('goes with its workflow, and then its log may go from the host', async () => {
    await handleOf(RELEASED).signal('letGo');
    expect(await handleOf(RELEASED).result()).toEqual([]);
    expect(await vmsOf(RELEASED)).toEqual([]);
    await kiln.host.sweep();
    expect(await kiln.host.logs.epochs(RELEASED)).toEqual([]);
  });

  it('is swept once its workflow is over and has not released it', async () => {
    await startSession(ENDED);
    await handleOf(ENDED).terminate('gone without a word');
    await expect
      .poll(
        async () => {
          await kiln.host.sweep();
          return vmsOf(ENDED);
        },
        { interval: 50 },
      )
      .toEqual([]);
    expect(await kiln.left()).toEqual([]);
  });

  it('is replayed as it was', async () => {
    const workflowBundle = await bundleWorkflows(WORKFLOWS);
    const history = await handleOf(RELEASED).fetchHistory();
    await Worker.runReplayHistory({ workflowBundle }, history, workflowIdOf(RELEASED));
  });
});
