/** A session on a real Temporal server and a real store, with guests of the fake driver. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULT_CLIENT_TIMINGS } from '../../../client/temporal/client-timings.ts';
import { createRecordNow } from '../../../client/temporal/maintenance/record-now.ts';
import { sessionWorkflowId, storeKeys } from '../../../domain/names.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { closeAll, ended, ran, shell, threadNamed, untilRun, untilTier } from '../../support/workers/session-steps.ts';

let kiln: Harness;
beforeAll(async () => {
  kiln = await startHarness();
});
afterAll(async () => {
  await kiln.close();
});

describe('a session', () => {
  it('runs what is sent to its thread, keeps its workspace, and waits warm in between', async () => {
    const name = threadNamed('first');
    const first = await ran(kiln.sessions, name, 'one', shell('echo kept > note; exit 3'));
    expect(first).toMatchObject({ turn: 1, outcome: { as: 'finished', code: 3, signal: null } });
    const { state } = await untilTier(kiln.sessions, name, 'warm');
    expect(state).toMatchObject({ tier: 'warm', runs: { turn: 1, waiting: [] } });
    const second = await ran(kiln.sessions, name, 'two', shell('grep kept note'));
    expect(second).toMatchObject({ turn: 2, outcome: { as: 'finished', code: 0, outputBytes: 5 } });
    expect(second.vm).toEqual(first.vm);
  });

  it('runs them one after another, in the order in which they came', async () => {
    const name = threadNamed('order');
    const ids = ['a', 'b', 'c', 'd'];
    for (const id of ids) await kiln.sessions.send(name, { id, command: shell(`echo ${id} >> order; cat order`) });
    const runs = await Promise.all(ids.map((id) => ended(kiln.sessions, name, id)));
    expect(runs.map(({ turn, outcome }) => [turn, outcome.as === 'finished' && outcome.outputBytes])).toEqual([
      [1, 2],
      [2, 4],
      [3, 6],
      [4, 8],
    ]);
  });

  it('cancels a run that waits and one that runs, and goes on in the same VM', async () => {
    const name = threadNamed('cancel');
    await kiln.sessions.send(name, { id: 'long', command: ['sleep', '1000'] });
    await kiln.sessions.send(name, { id: 'next', command: ['true'] });
    await untilRun(kiln.sessions, name, 'long', 'running');
    expect(await kiln.sessions.cancel(name, 'next')).toMatchObject({
      state: 'ended',
      run: { outcome: { as: 'cancelled' } },
    });
    await kiln.sessions.cancel(name, 'long');
    const { outcome, vm } = await ended(kiln.sessions, name, 'long');
    expect(outcome).toEqual({ as: 'cancelled', cause: 'CANCEL_ASKED' });
    expect(await ran(kiln.sessions, name, 'later', ['true'])).toMatchObject({ outcome: { code: 0 }, vm, turn: 2 });
    expect((await kiln.sessions.cancel(name, 'later')).state).toBe('ended');
    await expect(kiln.sessions.cancel(name, 'never')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('tells a run that took too long', async () => {
    const name = threadNamed('late');
    await kiln.sessions.send(name, { id: 'slow', command: ['sleep', '1000'], timeoutMs: 50 });
    expect(await ended(kiln.sessions, name, 'slow')).toMatchObject({
      outcome: { as: 'failed', failure: 'RUN_TIMEOUT' },
    });
  });

  it('is closed for good: what runs and waits is cancelled, and the ends are on record', async () => {
    const name = threadNamed('closed');
    await ran(kiln.sessions, name, 'done', ['true']);
    await kiln.sessions.send(name, { id: 'runs', command: ['sleep', '1000'] });
    await kiln.sessions.send(name, { id: 'waits', command: ['true'] });
    await untilRun(kiln.sessions, name, 'runs', 'running');
    const { snapshot, settled } = await kiln.sessions.close(name, { waitMs: 20_000, by: 'a test' });
    expect(settled).toBe(true);
    expect(snapshot.record.end).toMatchObject({ as: 'closed', cause: 'CLOSE_ASKED', lastTurn: 2 });
    expect((await kiln.sessions.run(name, 'runs')).run.run).toMatchObject({ outcome: { as: 'cancelled' } });
    expect((await kiln.sessions.run(name, 'waits')).run.run).toMatchObject({ outcome: { as: 'cancelled' } });
    await expect(kiln.sessions.send(name, { id: 'new', command: ['true'] })).rejects.toMatchObject({
      code: 'SESSION_CLOSED',
      details: { cause: 'CLOSE_ASKED', lastTurn: 2 },
    });
    expect((await kiln.sessions.close(name, { waitMs: 0 })).settled).toBe(true);
  });

  it('begins anew where a run asks for that, and still knows the ids of cancelled runs', async () => {
    const name = threadNamed('closed');
    const again = { id: 'new', command: ['true'], ifEnded: 'restart' } as const;
    await kiln.sessions.send(name, { ...again, command: [...again.command] });
    expect(await ended(kiln.sessions, name, 'new')).toMatchObject({ turn: 3, outcome: { code: 0 } });
    // The id of a cancelled run stays used.
    expect(await kiln.sessions.send(name, { id: 'waits', command: ['true'] })).toMatchObject({
      run: { outcome: { as: 'cancelled' } },
    });
  });

  it('expires by itself', async () => {
    const name = threadNamed('expiring');
    await kiln.sessions.create(name, { tiers: { ttlMs: 1_000 } });
    await ran(kiln.sessions, name, 'one', ['true']);
    await kiln.temporal.workflow.getHandle(sessionWorkflowId({ ...name, incarnation: 1 })).result();
    expect((await kiln.sessions.get(name)).record.end).toMatchObject({ as: 'expired', cause: 'TTL_PASSED' });
    await expect(kiln.sessions.send(name, { command: ['true'] })).rejects.toMatchObject({ code: 'SESSION_EXPIRED' });
  });

  it('is archived once it has ended', async () => {
    const recordNow = createRecordNow({ client: kiln.temporal, timings: DEFAULT_CLIENT_TIMINGS });
    const key = storeKeys.archivedHistory(sessionWorkflowId({ ...threadNamed('expiring'), incarnation: 1 }));
    // The index shows a closed workflow a moment later.
    while ((await kiln.store.headBlob(key)) === undefined) await recordNow(20_000);
  });

  it('leaves nothing, and histories that replay', async () => {
    await closeAll(kiln.sessions);
    expect(await kiln.left()).toEqual([]);
    await kiln.judge();
  });
});
