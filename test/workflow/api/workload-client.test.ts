/**
 * The client against a real Temporal server, the real store and the real workflow. Hosts do not matter here: the
 * placement answers "wait", so a workload stays pending until it is stopped or ended from outside.
 */

import { randomUUID } from 'node:crypto';
import { Context } from '@temporalio/activity';
import { Client, Connection } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { NativeConnection, Worker, type WorkflowBundle } from '@temporalio/worker';
import { afterAll, beforeAll, describe, type ExpectStatic, expect, inject, test } from 'vitest';
import { createCloseBooks } from '../../../activities/workload/close-books.ts';
import type { WorkloadArchive } from '../../../client/temporal/archive/workload-archive.ts';
import { createTaskQueueProbe } from '../../../client/temporal/task-queue-pollers.ts';
import { createWorkloadClient, type WorkloadClient } from '../../../client/temporal/workloads/workload-client.ts';
import { defined } from '../../../domain/defined.ts';
import { storeKeys, workloadWorkflowId } from '../../../domain/names.ts';
import { createDeployments } from '../../../store/deployments/deployments.ts';
import { createControlLog } from '../../../store/logs/control-log.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { createWorkloadDocuments, type StoredWorkloads } from '../../../store/workloads/workload-documents.ts';
import { freshObjectStore } from '../../support/servers/object-store.ts';
import { readWorkflowBundle } from '../../support/servers/workflow-bundle.ts';

const request = { servicePath: 'services/hello', env: { NAME: 'value' }, projectId: 'shop', deploymentId: 'front' };
const FRONT = {
  id: 'front',
  projectId: 'shop',
  serviceName: 'front',
  servicePath: 'services/hello',
  status: 'active' as const,
  createdAt: new Date(0).toISOString(),
};
const namespace = inject('temporalNamespace');
const WAIT_MS = 20_000;
/** The dev server deletes an execution only some time after the request to delete it. */
const FORGET_MS = 90_000;

let connection: Connection;
let workerConnection: NativeConnection;
let bundle: WorkflowBundle;
let temporal: Client;
let store: ObjectStore;
let archive: StoredWorkloads;
let polled: { client: WorkloadClient; taskQueue: string; stop: () => Promise<void> };

beforeAll(async () => {
  const address = inject('temporalAddress');
  [connection, workerConnection, bundle, store] = await Promise.all([
    Connection.connect({ address }),
    NativeConnection.connect({ address }),
    readWorkflowBundle(inject('workflowBundle')),
    freshObjectStore(),
  ]);
  temporal = new Client({ connection, namespace });
  archive = createWorkloadDocuments(store);
  await createDeployments(store).create(FRONT);
  polled = await withWorker(`queue-${randomUUID()}`);
});
afterAll(async () => {
  await polled.stop();
  await workerConnection.close();
  await connection.close();
  store.close();
});

function clientOf(taskQueue: string, documents: WorkloadArchive = archive): WorkloadClient {
  return createWorkloadClient({
    client: temporal,
    archive: documents,
    taskQueue,
    timings: { queryMs: 1_500 },
    policies: { placement: { backoffMs: 20, maxBackoffMs: 200 } },
  });
}

async function withWorker(taskQueue: string, activities: object = {}) {
  const worker = await Worker.create({
    connection: workerConnection,
    namespace,
    taskQueue,
    workflowBundle: bundle,
    activities: {
      placeWorkload: async () => ({ kind: 'wait', reason: 'no host in this test' }),
      checkHost: async () => ({ ageMs: null }),
      leaveLine: async () => undefined,
      closeBooks: createCloseBooks({ documents: archive, controlLog: createControlLog(store) }),
      ...activities,
    },
  });
  const running = worker.run();
  const stop = async () => {
    worker.shutdown();
    await running;
  };
  return { client: clientOf(taskQueue), taskQueue, stop };
}

const newId = () => `t-${randomUUID().slice(0, 13)}`;

/** @param expect of the test: tests that run at the same time cannot share one */
async function forget(id: string, expect: ExpectStatic): Promise<void> {
  const workflowId = workloadWorkflowId(id);
  await temporal.workflowService.deleteWorkflowExecution({ namespace, workflowExecution: { workflowId } });
  const handle = temporal.workflow.getHandle(workflowId);
  const describe = async () => {
    await handle.describe();
    return 'there';
  };
  await expect.poll(() => describe().catch(() => 'gone'), { timeout: FORGET_MS, interval: 500 }).toBe('gone');
}

async function executions(id: string): Promise<number> {
  let count = 0;
  for await (const _ of temporal.workflow.list({ query: `WorkflowId = '${workloadWorkflowId(id)}'` })) count += 1;
  return count;
}

describe('create', () => {
  test('of 20 at once with one id and body makes one workflow; all answer for it', async () => {
    const { client } = polled;
    const id = newId();
    const answers = await Promise.all(Array.from({ length: 20 }, () => client.create(request, id)));
    expect(new Set(answers.map(({ snapshot }) => snapshot.execution?.executionId)).size).toBe(1);
    expect(answers.filter(({ created }) => created)).toHaveLength(1);
    await expect.poll(() => executions(id), { timeout: WAIT_MS }).toBe(1);
    await client.stop(id, { waitMs: WAIT_MS });
  });

  test('with another body under the same id is a conflict, and changes nothing', async () => {
    const { client } = polled;
    const id = newId();
    await client.create(request, id);
    await expect(client.create({ ...request, env: { NAME: 'other' } }, id)).rejects.toMatchObject({ code: 'CONFLICT' });
    // Another order of the keys makes no difference.
    const { created } = await client.create(
      { deploymentId: 'front', projectId: 'shop', env: { NAME: 'value' }, servicePath: 'services/hello' },
      id,
    );
    expect(created).toBe(false);
    await client.stop(id, { waitMs: WAIT_MS });
  });

  test('heals what a crash left between the document and the start', async () => {
    const { client } = polled;
    const id = newId();
    const dead = createWorkloadClient({ client: temporal, archive: { ...archive, wasStarted: crash } });
    await expect(dead.create(request, id)).rejects.toThrow('crash');
    const waiting = await client.get(id);
    expect([waiting.origin, waiting.state.stage]).toEqual(['request', 'pending']);
    const healed = await client.create(request, id);
    expect(healed.snapshot.execution).toBeDefined();
    expect(healed.snapshot.state.createdAt).toBe(waiting.state.createdAt);
    await client.stop(id, { waitMs: WAIT_MS });
  });

  test('keeps the environment out of the history', async () => {
    const { client } = polled;
    const id = newId();
    await client.create({ servicePath: 'services/hello', env: { SECRET: 'do-not-tell' } }, id);
    await client.stop(id, { waitMs: WAIT_MS });
    const { events } = await temporal.workflow.getHandle(workloadWorkflowId(id)).fetchHistory();
    expect(events?.length).toBeGreaterThan(0);
    const raw = (events ?? []).map((event) => Buffer.from(JSON.stringify(event)).toString());
    const payloads = raw.join('').match(/"data":(\{[^}]*\}|"[^"]*")/g) ?? [];
    const texts = payloads.map((text) => decoded(text.slice('"data":'.length)));
    expect(texts.some((text) => text.includes('services/hello'))).toBe(true);
    expect(texts.some((text) => text.includes('do-not-tell'))).toBe(false);
  });

  test.each([
    ['upwards path', { servicePath: '../evil' }],
    ['absolute path', { servicePath: '/etc' }],
    ['reserved port', { servicePath: 'a', port: 443 }],
    ['unknown field', { servicePath: 'a', replicas: 3 }],
  ])('refuses a request with an %s', async (_name, bad) => {
    const id = newId();
    await expect(polled.client.create(bad, id)).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    expect((await store.list(storeKeys.workloadSpec(id))).objects).toEqual([]);
  });
});

describe('get, stop, list, history', () => {
  test('of an unknown id are NOT_FOUND', async () => {
    const { client } = polled;
    const missing = { code: 'NOT_FOUND' };
    await expect(client.get('never-made')).rejects.toMatchObject(missing);
    await expect(client.stop('never-made', { waitMs: 0 })).rejects.toMatchObject(missing);
    await expect(client.history('never-made')).rejects.toMatchObject(missing);
  });

  test('a pending workload tells why it waits; a stop settles it; a second stop finds it settled', async () => {
    const { client } = polled;
    const id = newId();
    await client.create(request, id);
    await expect
      .poll(async () => (await client.get(id)).state.waiting?.reason, { timeout: WAIT_MS })
      .toBe('no host in this test');
    const stopped = await client.stop(id, { waitMs: WAIT_MS });
    expect([stopped.settled, stopped.snapshot.state.stage]).toEqual([true, 'stopped']);
    const again = await client.stop(id, { waitMs: 0 });
    expect(again).toEqual(stopped);
    const history = await client.history(id);
    expect(history).toMatchObject({ source: 'temporal', stages: ['pending', 'stopped'] });
    expect(history.moves[0]?.cause).toBe(stopped.snapshot.state.moves[0]?.cause);
    expect(history.events).toBeLessThan(100);
  });

  test('without a worker a workload is shown from what Temporal knows, with the reason; a stop does not settle', async () => {
    const client = clientOf(`unpolled-${randomUUID()}`);
    const id = newId();
    const { snapshot } = await client.create(request, id);
    expect(snapshot).toMatchObject({
      origin: 'temporal',
      state: { stage: 'pending', servicePath: 'services/hello', projectId: 'shop' },
    });
    expect(snapshot.state.waiting?.reason).toContain('No control worker polls');
    expect((await client.stop(id, { waitMs: 100 })).settled).toBe(false);
    await temporal.workflow.getHandle(workloadWorkflowId(id)).terminate();
    const ended = await client.get(id);
    expect(ended.state).toMatchObject({ stage: 'failed', failure: { code: 'TERMINATED', stage: 'pending' } });
  });

  test('one that is started between two looks of a get or a stop is open, not forgotten: the stop reaches it', async () => {
    /** Makes a create succeed in the middle of a read: after its look at Temporal, before its look at the store. */
    const readerOf = (taskQueue: string, looksBefore: number): WorkloadClient => {
      let looks = 0;
      const startedMeanwhile: WorkloadArchive = {
        ...archive,
        specDocument: async (id) => {
          looks += 1;
          if (looks === looksBefore + 1) await polled.client.create(request, id);
          return archive.specDocument(id);
        },
      };
      return clientOf(taskQueue, startedMeanwhile);
    };
    const got = newId();
    expect((await readerOf(polled.taskQueue, 0).get(got)).state.stage).toBe('pending');
    await polled.client.stop(got, { waitMs: WAIT_MS });
    const stopped = newId();
    // The first look of a stop is for a create that was interrupted half way.
    await readerOf(polled.taskQueue, 1).stop(stopped, { waitMs: WAIT_MS });
    expect((await polled.client.get(stopped)).state.stage).toBe('stopped');
  });

  test('a failed workload whose worker is gone before its books are closed tells its code and stage all the same', async () => {
    const worker = await withWorker(`gone-${randomUUID()}`, {
      placeWorkload: async () => {
        throw ApplicationFailure.nonRetryable('no host is that large', 'NO_CAPACITY');
      },
      closeBooks: () => Context.current().cancelled,
    });
    const id = newId();
    await worker.client.create(request, id);
    await expect.poll(async () => (await worker.client.get(id)).state.stage, { timeout: WAIT_MS }).toBe('failed');
    await worker.stop();
    const { origin, state, isOpen } = await worker.client.get(id);
    expect([origin, isOpen, state.stage, state.failure?.code, state.failure?.stage]).toEqual([
      'temporal',
      true,
      'failed',
      'NO_CAPACITY',
      'pending',
    ]);
    expect(state.moves.map(({ from, to }) => [from, to])).toEqual([['pending', 'failed']]);
    await temporal.workflow.getHandle(workloadWorkflowId(id)).terminate();
    // The workload had already ended by itself; only the closing of its books was terminated.
    const ended = await worker.client.get(id);
    expect(ended.state).toMatchObject({ stage: 'failed', failure: { code: 'NO_CAPACITY', stage: 'pending' } });
    expect(ended).not.toHaveProperty('isOpen');
    expect((await worker.client.history(id)).stages).toEqual(['pending', 'failed']);
  });

  test('a stopped workload that was terminated before its books were closed is stopped, by itself and in lists', async () => {
    const worker = await withWorker(`closing-${randomUUID()}`, { closeBooks: () => Context.current().cancelled });
    const id = newId();
    const projectId = id;
    await worker.client.create({ ...request, projectId }, id);
    await worker.client.stop(id, { waitMs: 0 });
    await expect.poll(async () => (await worker.client.get(id)).state.stage, { timeout: WAIT_MS }).toBe('stopped');
    await worker.stop();
    await temporal.workflow.getHandle(workloadWorkflowId(id)).terminate();
    expect((await worker.client.get(id)).state.stage).toBe('stopped');
    const closed = async (stage: 'stopped' | 'failed') =>
      (await worker.client.list({ stage, projectId, limit: 10 })).items
        .filter(({ closedAt }) => closedAt !== undefined)
        .map((item) => item.stage);
    await expect.poll(() => closed('stopped'), { timeout: WAIT_MS }).toEqual(['stopped']);
    expect(await closed('failed')).toEqual([]);
  });

  test('a queue that backs up behind a worker that has just gone is told, and is not taken for polled', async () => {
    const queue = `backed-up-${randomUUID()}`;
    const worker = await withWorker(queue);
    const id = newId();
    await worker.client.create(request, id);
    await expect.poll(async () => (await worker.client.get(id)).origin, { timeout: WAIT_MS }).toBe('workflow');
    await worker.stop();
    await worker.client.stop(id, { waitMs: 0 });
    const second = newId();
    await worker.client.create(request, second);
    await expect
      .poll(async () => (await worker.client.get(second)).state.waiting?.reason, { timeout: WAIT_MS })
      .toMatch(/^\d+ task\(s\) wait in backed-up-/);
    const timings = { backlogMs: 0 };
    expect(await createTaskQueueProbe({ client: temporal, timings })(queue, 'workflow')).toBe(false);
  });

  test('lists come by page, by stage, by deployment and by project', async () => {
    const { client } = polled;
    const projectId = newId();
    const ids = [newId(), newId(), newId()];
    for (const id of ids) await client.create({ servicePath: 'services/hello', projectId }, id);
    await expect
      .poll(async () => (await client.list({ projectId, limit: 10 })).items.length, { timeout: WAIT_MS })
      .toBe(3);
    const first = await client.list({ projectId, limit: 2 });
    const rest = await client.list({
      projectId,
      limit: 2,
      ...defined({ cursor: first.next }),
    });
    expect([...first.items, ...rest.items].map(({ id }) => id).sort()).toEqual([...ids].sort());
    expect(first.items[0]).toMatchObject({ stage: 'pending', servicePath: 'services/hello', projectId });
    const [one = '', two = ''] = ids;
    await client.stop(one, { waitMs: WAIT_MS });
    await temporal.workflow.getHandle(workloadWorkflowId(two)).terminate();
    const idsOf = async (stage: 'pending' | 'stopped' | 'failed') =>
      (await client.list({ projectId, stage, limit: 10 })).items.map(({ id, stage: shown }) => [id, shown]);
    await expect.poll(() => idsOf('stopped'), { timeout: WAIT_MS }).toEqual([[one, 'stopped']]);
    await expect.poll(() => idsOf('failed'), { timeout: WAIT_MS }).toEqual([[two, 'failed']]);
    expect(await idsOf('pending')).toEqual([[ids[2], 'pending']]);
    await expect(client.list({ limit: 2, cursor: 'bm90LWEtY3Vyc29y' })).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    await client.stop(ids[2] ?? '', { waitMs: WAIT_MS });
  });
});

describe.concurrent('once Temporal has forgotten it', { timeout: FORGET_MS }, () => {
  test('after the end, and after Temporal has forgotten it, answers the end and starts nothing', async ({ expect }) => {
    const { client } = polled;
    const id = newId();
    const first = await client.create(request, id);
    await client.stop(id, { waitMs: WAIT_MS, reason: 'test' });
    const over = await client.create(request, id);
    expect(over.snapshot.state.stage).toBe('stopped');
    expect(over.snapshot.execution).toEqual(first.snapshot.execution);
    await forget(id, expect);
    const forgotten = await client.create(request, id);
    expect(forgotten.snapshot.origin).toBe('archive');
    expect(forgotten.snapshot.state).toEqual(over.snapshot.state);
    await expect(client.create({ servicePath: 'services/other' }, id)).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(await client.history(id)).toMatchObject({ source: 'archive', stages: ['pending', 'stopped'] });
    await expect(temporal.workflow.getHandle(workloadWorkflowId(id)).describe()).rejects.toThrow();
  });

  test('a terminated workload is failed TERMINATED, also once Temporal has forgotten it, and never starts again', async ({
    expect,
  }) => {
    const { client } = polled;
    const id = newId();
    await client.create(request, id);
    await expect.poll(async () => (await client.get(id)).state.waiting?.reason, { timeout: WAIT_MS }).toBeDefined();
    await temporal.workflow.getHandle(workloadWorkflowId(id)).terminate('by hand');
    const ended = await client.get(id);
    expect(ended.state).toMatchObject({ stage: 'failed', failure: { code: 'TERMINATED', stage: 'pending' } });
    expect(await client.history(id)).toMatchObject({ stages: ['pending'] });
    await forget(id, expect);
    expect((await client.create(request, id)).snapshot.state).toEqual(ended.state);
    expect(await client.get(id)).toMatchObject({ state: ended.state });
  });

  test('one that was terminated and forgotten before anybody looked does not start again either', async ({
    expect,
  }) => {
    const { client } = polled;
    const id = newId();
    await client.create(request, id);
    await temporal.workflow.getHandle(workloadWorkflowId(id)).terminate();
    await forget(id, expect);
    const { snapshot } = await client.create(request, id);
    expect(snapshot.state).toMatchObject({ stage: 'failed', failure: { code: 'TERMINATED' } });
    await expect(temporal.workflow.getHandle(workloadWorkflowId(id)).describe()).rejects.toThrow();
  });
});

async function crash(): Promise<never> {
  throw new Error('crash');
}

/** Decodes bytes as protobufjs prints them: base64, or an object of numbered bytes. */
function decoded(text: string): string {
  const value: unknown = JSON.parse(text);
  if (typeof value === 'string') return Buffer.from(value, 'base64').toString('utf8');
  return Buffer.from(Object.values(value ?? {}).filter((byte) => typeof byte === 'number')).toString('utf8');
}
