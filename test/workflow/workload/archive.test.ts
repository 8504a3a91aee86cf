/**
 * The whole history of a workload outlives Temporal: over REST and on the command line it is the same before its
 * executions are deleted and after, field by field.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createKilnClient, type KilnClient } from '../../../client/http/kiln-client.ts';
import { DEFAULT_CLIENT_TIMINGS } from '../../../client/temporal/client-timings.ts';
import { createRecordNow } from '../../../client/temporal/maintenance/record-now.ts';
import { createTaskQueueProbe } from '../../../client/temporal/task-queue-pollers.ts';
import { KilnError } from '../../../domain/failures.ts';
import { storeKeys, workloadWorkflowId } from '../../../domain/names.ts';
import { createGateway, type Gateway } from '../../../gateway/gateway.ts';
import { hostLogsOverHttp } from '../../../gateway/logs/host-logs.ts';
import { createHistoryArchive } from '../../../store/archive/history-archive.ts';
import { kiln as command } from '../../support/gateway/cli-fixtures.ts';
import { repeatingApi } from '../../support/gateway/repeating-api.ts';
import { replayArchived } from '../../support/histories/archived-histories.ts';
import { callingActivity } from '../../support/workers/calling-activity.ts';
import { FAST, type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { PortGates } from '../../support/workers/port-gates.ts';

const TOKEN = 'a-token-of-the-archive-tests';
/** The dev server deletes an execution only some time after the request to delete it. */
const FORGET_MS = 120_000;
const IDS = ['kept-stopped', 'kept-failed', 'kept-continued', 'kept-cancelled', 'kept-terminated'];
const gates = new PortGates(callingActivity);
let kiln: Harness;
let gateway: Gateway;
let api: KilnClient;

beforeAll(async () => {
  kiln = await startHarness({
    hostPorts: (ports) => gates.over(ports),
    // A late heartbeat would begin another execution, which only the fault below is meant to do.
    policies: {
      supervise: { backoffMs: 20, maxBackoffMs: 100, heartbeatMs: 30_000, continueAfter: 1 },
      host: { ...FAST.host, scheduleToStartMs: 30_000 },
    },
  });
  gateway = createGateway({
    workloads: kiln.workloads,
    store: kiln.store,
    isPolled: createTaskQueueProbe({ client: kiln.temporal }),
    recordNow: createRecordNow({ client: kiln.temporal, timings: DEFAULT_CLIENT_TIMINGS }),
    hostLogs: hostLogsOverHttp({ token: 'a-token-for-tests', timeoutMs: 3_000, maxBytes: 16_000_000 }),
    token: TOKEN,
    log: { info: () => undefined, warn: () => undefined, error: console.error },
    version: '0',
  });
  api = repeatingApi(createKilnClient({ apiUrl: await gateway.listen({ host: '127.0.0.1', port: 0 }), token: TOKEN }));
});
afterAll(async () => {
  await gateway.close();
  await kiln.close();
});

/** Everything that the API returns about a workload. */
async function storyOf(id: string) {
  const params = { id };
  const [view, history, logs] = await Promise.all([
    api.getWorkload({ params }),
    api.workloadHistory({ params }),
    api.workloadLogs({ params, query: { limit: 1000 } }),
  ]);
  // After Temporal has forgotten it, there is no link to Temporal and the source is another; nothing else may differ.
  const { temporal: _temporal, ...links } = view.links;
  const { source, ...told } = history;
  return { source, same: { view: { ...view, links }, history: told, logs } };
}

async function forget(id: string): Promise<void> {
  const workflowId = workloadWorkflowId(id);
  const { namespace, temporal } = kiln;
  for await (const { runId } of temporal.workflow.list({ query: `WorkflowId = '${workflowId}'` })) {
    await temporal.workflowService.deleteWorkflowExecution({ namespace, workflowExecution: { workflowId, runId } });
  }
  const isGone = () =>
    temporal.workflow
      .getHandle(workflowId)
      .describe()
      .then(
        () => false,
        () => true,
      );
  await expect.poll(isGone, { timeout: FORGET_MS, interval: 500 }).toBe(true);
}

/** Runs `kiln archive record`. @returns its report, once everything that has ended is recorded */
async function record() {
  const { stdout, exitCode } = await command(['archive', 'record', '--json'], { api });
  return { report: JSON.parse(stdout), exitCode };
}

describe('the archive', () => {
  it('holds the whole history of everything that is over, however it ended, and nothing of what is not', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'still-open');
    for (const id of ['kept-stopped', 'kept-cancelled', 'kept-terminated']) {
      await kiln.workloads.create({ servicePath: 'plain' }, id);
      await kiln.untilStage(id, 'running');
    }
    const fault = () => new KilnError('INTERNAL', 'a fault of the watcher');
    gates.failOnce('vms.waitExit', 'before', fault, { workloadId: 'kept-continued' });
    await kiln.workloads.create({ servicePath: 'plain' }, 'kept-continued');
    await kiln.untilStage('kept-continued', 'running');
    const isContinued = async () => {
      const { raw } = await kiln.temporal.workflow.getHandle('workload/kept-continued').describe();
      return raw.workflowExecutionInfo?.firstRunId !== raw.workflowExecutionInfo?.execution?.runId;
    };
    await expect.poll(isContinued, { timeout: 20_000 }).toBe(true);
    // A closed execution is archived at once, even if its workload still runs.
    const archive = createHistoryArchive(kiln.store);
    const { raw } = await kiln.temporal.workflow.getHandle('workload/kept-continued').describe();
    const isKept = async () => {
      await record();
      return archive.execution('workload/kept-continued', raw.workflowExecutionInfo?.firstRunId ?? '');
    };
    await expect.poll(isKept, { timeout: 20_000 }).toMatchObject({ events: expect.any(Number) });
    expect(await archive.whole('workload/kept-continued')).toBeUndefined();
    await kiln.workloads.create({ servicePath: 'build-fails' }, 'kept-failed');
    await kiln.untilStage('kept-failed', 'failed');
    await kiln.workloads.stop('kept-stopped', { waitMs: 20_000 });
    await kiln.workloads.stop('kept-continued', { waitMs: 20_000 });
    const cancelled = kiln.temporal.workflow.getHandle('workload/kept-cancelled');
    await cancelled.cancel();
    await cancelled.result().catch(() => undefined);
    await kiln.temporal.workflow.getHandle('workload/kept-terminated').terminate('by hand');
    await expect
      .poll(
        async () => (await api.listWorkloads({ query: { limit: 50 } })).items.filter((item) => item.closedAt).length,
      )
      .toBe(IDS.length);

    const { report, exitCode } = await record();
    expect(report).toMatchObject({
      recorded: { executions: 5, workflows: 5, failed: 0, more: false },
      hosts: [{ hostId: 'h1', swept: true }],
      problems: [],
    });
    expect(exitCode).toBe(0);
    for (const id of IDS)
      expect((await archive.whole(workloadWorkflowId(id)))?.executions.length, id).toBeGreaterThan(0);
    expect((await archive.whole('workload/kept-continued'))?.executions).toHaveLength(2);
    expect(await archive.whole('workload/still-open')).toBeUndefined();
    expect((await record()).report).toMatchObject({ recorded: { executions: 0, workflows: 0, failed: 0 } });
    await kiln.workloads.stop('still-open', { waitMs: 20_000 });
  });

  it('knows the executions that a workload went on from, also once Temporal has forgotten them alone', {
    timeout: FORGET_MS,
  }, async () => {
    const params = { id: 'kept-continued' };
    const workflowId = workloadWorkflowId(params.id);
    const before = await api.workloadHistory({ params });
    const { raw } = await kiln.temporal.workflow.getHandle(workflowId).describe();
    const runId = raw.workflowExecutionInfo?.firstRunId ?? '';
    const workflowExecution = { workflowId, runId };
    await kiln.temporal.workflowService.deleteWorkflowExecution({ namespace: kiln.namespace, workflowExecution });
    const isGone = () =>
      kiln.temporal.workflow
        .getHandle(workflowId, runId)
        .describe()
        .then(
          () => false,
          () => true,
        );
    await expect.poll(isGone, { timeout: FORGET_MS, interval: 500 }).toBe(true);
    expect(await api.workloadHistory({ params })).toEqual(before);
  });

  it('answers as Temporal did, field by field, once Temporal has forgotten everything', {
    timeout: 240_000,
  }, async () => {
    const before = await Promise.all(IDS.map(storyOf));
    expect(before.map(({ source }) => source)).toEqual(IDS.map(() => 'temporal'));
    // The host must have reported that it freed everything of the last one, too.
    await expect
      .poll(async () => (await storyOf('kept-terminated')).same.view.unreleased[0]?.freedAt, {
        timeout: 20_000,
      })
      .toBeDefined();
    const settled = await Promise.all(IDS.map(storyOf));
    await Promise.all(IDS.map(forget));
    const after = await Promise.all(IDS.map(storyOf));
    for (const [index, story] of after.entries()) expect(story.same, IDS[index]).toEqual(settled[index]?.same);
    expect(after.map(({ source }) => source)).toEqual(IDS.map(() => 'archive'));
    for (const { same } of after) expect(same.history.events).toBeGreaterThan(0);
  });

  it('tells the whole story on the command line', async () => {
    const inspected = await command(['workload', 'inspect', 'kept-failed'], { api });
    expect(inspected.stdout).toContain('BUILD_FAILED');
    const history = await command(['workload', 'history', 'kept-continued'], { api });
    expect(history.stdout).toMatch(/running +stopped/);
    expect(history.stdout).toMatch(/\d+ events; from the recorded events, as the archive keeps them/);
    const logs = await command(['workload', 'logs', 'kept-stopped'], { api });
    expect(logs.stdout).toContain('stopping the service');
    const terminated = await command(['workload', 'inspect', 'kept-terminated'], { api });
    expect(terminated.stdout).toContain('released later: whatever it held on h1');
  });

  it('keeps histories that replay', async () => {
    expect(await replayArchived(kiln.store, IDS)).toBe(6);
  });

  it('is refused where it was tampered with', async () => {
    const params = { id: 'kept-stopped' };
    const workflowId = workloadWorkflowId(params.id);
    const [execution] = (await createHistoryArchive(kiln.store).whole(workflowId))?.executions ?? [];
    if (execution === undefined) throw new Error('nothing is archived');
    const key = storeKeys.archivedEvents(workflowId, execution.executionId, execution.sha256);
    const whole = await kiln.store.readBlob(key, 10_000_000);
    const damaged = Buffer.from(whole);
    damaged.writeUInt8((damaged.at(100) ?? 0) ^ 1, 100);
    await kiln.store.putBlob(key, { data: damaged });
    await expect(api.workloadHistory({ params })).rejects.toMatchObject({ code: 'ARCHIVE_CORRUPT' });
    await kiln.store.delete(key);
    await expect(api.workloadHistory({ params })).rejects.toMatchObject({ code: 'ARCHIVE_CORRUPT' });
    await kiln.store.putBlob(key, { data: whole });
    expect((await api.workloadHistory({ params })).events).toBeGreaterThan(0);
  });
});
