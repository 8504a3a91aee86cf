/** How sessions end, and what is left of them afterwards. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULT_CLIENT_TIMINGS } from '../../../client/temporal/client-timings.ts';
import { createRecordNow, type RecordNow } from '../../../client/temporal/maintenance/record-now.ts';
import { createSessionClient, type SessionClient } from '../../../client/temporal/sessions/session-client.ts';
import { KilnError } from '../../../domain/failures.ts';
import { sessionWorkflowId, storeKeys, type ThreadName } from '../../../domain/names.ts';
import { createHistoryArchive } from '../../../store/archive/history-archive.ts';
import { createSealedBodies } from '../../../store/sessions/sealed-bodies.ts';
import { createSessionRemains } from '../../../store/sessions/session-remains.ts';
import { sessionBooksOf } from '../../support/workers/harness-workers.ts';
import { FAST_SESSIONS, type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { closeAll, ended, ran, threadNamed, untilTier } from '../../support/workers/session-steps.ts';

let kiln: Harness;
let recordNow: RecordNow;
beforeAll(async () => {
  kiln = await startHarness();
  recordNow = createRecordNow({ client: kiln.temporal, timings: DEFAULT_CLIENT_TIMINGS });
});
afterAll(() => kiln.close());

async function keysBelow(prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of kiln.store.listAll(prefix)) keys.push(key);
  return keys;
}

const leftOf = (name: ThreadName) => keysBelow(storeKeys.thread(name));
const workflowOf = (name: ThreadName, incarnation = 1) => sessionWorkflowId({ ...name, incarnation });
const closed = (name: ThreadName) => kiln.sessions.close(name, { waitMs: 20_000 });
const deleted = (name: ThreadName, sessions = kiln.sessions) => sessions.delete(name, { waitMs: 20_000 });

/** Closes a session of its own, and waits until the recorder has come by. */
async function recorderCameBy(name: ThreadName): Promise<void> {
  await ran(kiln.sessions, name, 'one', ['echo', 'one']);
  await closed(name);
  // Temporal lists what is closed with a short delay.
  while ((await createHistoryArchive(kiln.store).whole(workflowOf(name))) === undefined) await recordNow(20_000);
}

/** A client whose deletions break off before each delete in the store but the first ones. */
function brokenOffAfter(deletes: number): SessionClient {
  let left = deletes;
  const failing = new Proxy(kiln.store, {
    get: (store, property) => {
      const value: unknown = Reflect.get(store, property);
      if (property !== 'delete') return typeof value === 'function' ? value.bind(store) : value;
      return async (key: string) => {
        if (left-- <= 0) throw new KilnError('STORE_UNAVAILABLE', 'away in a test');
        await store.delete(key);
      };
    },
  });
  return createSessionClient({ client: kiln.temporal, books: sessionBooksOf(failing, {}), policies: FAST_SESSIONS });
}

describe('a closed session', () => {
  it('still lists its runs, those of its own only', async () => {
    const name = threadNamed('lists');
    await ran(kiln.sessions, name, 'one', ['true']);
    await ran(kiln.sessions, name, 'two', ['false']);
    await closed(name);
    const runs = await kiln.sessions.runs(name, 10);
    expect(runs.map(({ state, run }) => [state, run.id])).toEqual([
      ['ended', 'two'],
      ['ended', 'one'],
    ]);
    expect(await kiln.sessions.runs(name, 1)).toHaveLength(1);
    await kiln.sessions.send(name, { id: 'three', command: ['true'], ifEnded: 'restart' });
    await ended(kiln.sessions, name, 'three');
    await closed(name);
    expect((await kiln.sessions.runs(name, 10)).map(({ run }) => run.id)).toEqual(['three']);
  });
});

describe('a deleted session', () => {
  it('leaves a record that says so, and nothing else; its sealed messages can be read by nobody', async () => {
    const name = threadNamed('goes');
    await ran(kiln.sessions, name, 'one', ['sh', '-c', 'echo to be forgotten']);
    await untilTier(kiln.sessions, name, 'warm');
    const { snapshot, settled } = await deleted(name);
    expect({ settled, end: snapshot.record.end }).toMatchObject({
      settled: true,
      end: { as: 'deleted', cause: 'DELETE_ASKED', lastTurn: 1, emptiedAt: expect.any(String) },
    });
    expect(await leftOf(name)).toEqual([storeKeys.session(name)]);
    const opening = createSealedBodies(kiln.store).open('', {
      session: { ...name, incarnation: 1 },
      runId: 'one',
      part: 'request',
    });
    await expect(opening).rejects.toMatchObject({ code: 'NOT_FOUND' });
    // What was on its way to the store when it was deleted, and what is recorded later, does not come back.
    await recorderCameBy(threadNamed('after-goes'));
    const archive = createHistoryArchive(kiln.store);
    expect(await archive.whole(workflowOf(name))).toMatchObject({ executions: [], deletedAt: expect.any(String) });
    expect(await keysBelow(storeKeys.archive(workflowOf(name)))).toEqual([storeKeys.archivedHistory(workflowOf(name))]);
    await expect(kiln.sessions.send(name, { id: 'one', command: ['true'] })).rejects.toMatchObject({
      code: 'SESSION_CLOSED',
      message: expect.stringContaining('was deleted'),
    });
    expect((await deleted(name)).snapshot.record).toEqual(snapshot.record);
  });

  it('takes along what was archived, and all earlier sessions of its thread', async () => {
    const name = threadNamed('goes-whole');
    await recorderCameBy(name);
    const archive = createHistoryArchive(kiln.store);
    expect((await archive.whole(workflowOf(name)))?.executions).toHaveLength(1);
    await kiln.sessions.send(name, { id: 'two', command: ['true'], ifEnded: 'restart' });
    await ended(kiln.sessions, name, 'two');
    await deleted(name);
    expect(await leftOf(name)).toEqual([storeKeys.session(name)]);
    for (const incarnation of [1, 2]) {
      expect(await keysBelow(storeKeys.archive(workflowOf(name, incarnation)))).toEqual([
        storeKeys.archivedHistory(workflowOf(name, incarnation)),
      ]);
    }
    expect(await archive.read(workflowOf(name))).toBeUndefined();
  });

  it('is deleted whole by the next call where one broke off, and begins anew only then', async () => {
    for (const deletes of [0, 1, 2]) {
      const name = threadNamed(`breaks-off-${deletes}`);
      await ran(kiln.sessions, name, 'one', ['echo', 'one']);
      await expect(deleted(name, brokenOffAfter(deletes))).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
      const { record } = await kiln.sessions.get(name);
      expect(record.end).toMatchObject({ as: 'deleted' });
      expect(record.end).not.toHaveProperty('emptiedAt');
      expect((await leftOf(name)).length).toBeGreaterThan(1);
      const begun = kiln.sessions.send(name, { id: 'one', command: ['true'], ifEnded: 'restart' });
      expect(await begun).not.toMatchObject({ state: 'ended' });
      expect(await ended(kiln.sessions, name, 'one')).toMatchObject({ outcome: { code: 0 }, turn: 1 });
      expect((await kiln.sessions.get(name)).record).toMatchObject({ incarnation: 2 });
    }
  });

  it('takes nothing of the session that came after it, however late it is removed', async () => {
    const name = threadNamed('late-removal');
    await ran(kiln.sessions, name, 'one', ['true']);
    await deleted(name);
    await kiln.sessions.send(name, { id: 'two', command: ['true'], ifEnded: 'restart' });
    await ended(kiln.sessions, name, 'two');
    await closed(name);
    const before = await leftOf(name);
    await createSessionRemains(kiln.store).remove({ ...name, incarnation: 1 });
    expect(await leftOf(name)).toEqual(before);
    expect(before).toContain(storeKeys.sessionKey({ ...name, incarnation: 2 }));
  });

  it('was never there: NOT_FOUND', async () => {
    await expect(deleted(threadNamed('never-was'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

it('the control worker counts each run and each session that ended', async () => {
  const name = threadNamed('counted');
  const count = async (metric: string) => {
    const found = (await kiln.controlMetrics.registry.getMetricsAsJSON()).find((each) => each.name === metric);
    const of = (label: string) => found?.values.find(({ labels }) => Object.values(labels)[0] === label)?.value ?? 0;
    return [of('finished') + of('closed'), of('cancelled')] as const;
  };
  const runs = await count('kiln_session_runs_total');
  const ends = await count('kiln_session_ends_total');
  await ran(kiln.sessions, name, 'one', ['false']);
  await kiln.sessions.send(name, { id: 'two', command: ['sleep', '1000'] });
  await closed(name);
  expect(await count('kiln_session_runs_total')).toEqual([runs[0] + 1, runs[1] + 1]);
  expect(await count('kiln_session_ends_total')).toEqual([ends[0] + 1, 0]);
  expect(await kiln.host.metrics.registry.metrics()).toMatch(/^kiln_host_wakes_waiting 0$/m);
});

it('leaves nothing, and histories that replay', async () => {
  await closeAll(kiln.sessions);
  expect(await kiln.left()).toEqual([]);
  await kiln.judge();
});
