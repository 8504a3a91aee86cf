/** The maintenance on the real server: bounded, repeated, with parts that fail, on a Schedule; and what it corrects. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULT_CLIENT_TIMINGS } from '../../../client/temporal/client-timings.ts';
import { createRecordNow } from '../../../client/temporal/maintenance/record-now.ts';
import { KilnError } from '../../../domain/failures.ts';
import { CONTROL_QUEUE, MAINTENANCE_SCHEDULE, storeKeys } from '../../../domain/names.ts';
import type { MaintenanceInput, MaintenanceReport } from '../../../domain/upkeep/maintenance.ts';
import { createHistoryArchive } from '../../../store/archive/history-archive.ts';
import { createSaveHeads } from '../../../store/sessions/saves/heads.ts';
import { ensureMaintenanceSchedule } from '../../../temporal/maintenance-schedule.ts';
import { isWatched } from '../../support/servers/is-watched.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { PortGates } from '../../support/workers/port-gates.ts';

const QUICK = { hostAnswerMs: 1_000, backoffMs: 20, maxBackoffMs: 100, heartbeatMs: 1_500, deriveAfterMs: 0 };
const gates = new PortGates();
/** Overrides the host directory: each value is the age of a host's entry at one of the next looks, ms. */
let asleepMs: number[] = [];
let kiln: Harness;

beforeAll(async () => {
  kiln = await startHarness({
    controlPorts: (ports) => {
      const guarded = gates.over(ports);
      const read = async (hostId: string) => {
        const entry = await guarded.hosts.read(hostId);
        const ageMs = asleepMs.shift();
        return entry === undefined || ageMs === undefined
          ? entry
          : { ...entry, at: new Date(Date.now() - ageMs).toISOString() };
      };
      return { ...guarded, hosts: { list: () => guarded.hosts.list(), read } };
    },
    hostPorts: (ports) => gates.over(ports),
    policies: {
      placement: { deadlineMs: 5_000, backoffMs: 20, maxBackoffMs: 100, reservationTtlMs: 1_000 },
      host: { scheduleToStartMs: 1_000, lostAfterMs: 1_500, recheckMs: 100 },
      leave: { graceMs: 500, startToCloseMs: 5_000, heartbeatMs: 1_500, scheduleToCloseMs: 3_000 },
      supervise: { backoffMs: 20, maxBackoffMs: 100, heartbeatMs: 1_000, settleMs: 1_000 },
    },
  });
});
afterAll(() => kiln.close());

let runs = 0;
async function maintain(
  input: Omit<MaintenanceInput, 'schemaVersion'> = {},
  name = `run-${runs + 1}`,
): Promise<MaintenanceReport> {
  runs += 1;
  const args: [MaintenanceInput] = [{ schemaVersion: 1, ...input, policies: { ...QUICK, ...input.policies } }];
  const workflowId = `maintenance/${name}`;
  return kiln.temporal.workflow.execute('maintenanceWorkflow', { args, taskQueue: CONTROL_QUEUE, workflowId });
}

/** Makes workloads that fail early: the quickest way to end. */
async function makeOver(ids: readonly string[]): Promise<void> {
  for (const id of ids) await kiln.workloads.create({ servicePath: 'missing' }, id);
  for (const id of ids) await kiln.untilStage(id, 'failed');
  const listed = async () => {
    const { items } = await kiln.workloads.list({ limit: 200 });
    return ids.filter((id) => items.some((item) => item.id === id && item.closedAt !== undefined)).length;
  };
  await expect.poll(listed, { timeout: 20_000 }).toBe(ids.length);
}

const archived = async (id: string) => (await createHistoryArchive(kiln.store).whole(`workload/${id}`)) !== undefined;

describe('the recorder', () => {
  it('goes through pages and executions of its own, is bounded, and a second run goes on', async () => {
    const ids = ['over-1', 'over-2', 'over-3', 'over-4', 'over-5'];
    await makeOver(ids);
    const first = await maintain({ policies: { pageSize: 2, pagesPerExecution: 1, maxRecorded: 3 } });
    expect(first.recorded).toMatchObject({ executions: 3, workflows: 3, more: true, failed: 0 });
    const second = await maintain({ policies: { pageSize: 2, pagesPerExecution: 1 } });
    expect(second.recorded).toMatchObject({ executions: 2, workflows: 2, more: false, failed: 0 });
    expect(await Promise.all(ids.map(archived))).toEqual(ids.map(() => true));
    const { historyLength } = await kiln.temporal.workflow.getHandle('maintenance/run-2').describe();
    expect(historyLength).toBeLessThan(100);
    expect((await maintain()).recorded).toMatchObject({ executions: 0, workflows: 0 });
  });

  it('tells what it cannot fetch, records the others, and comes back to it', async () => {
    await makeOver(['cannot-1', 'can-2']);
    gates.failOnce('closed.fetch', 'before', () => new KilnError('INTERNAL', 'a history that cannot be had'));
    const report = await maintain();
    expect(report.recorded).toMatchObject({ workflows: 1, failed: 1 });
    expect(report.problems).toEqual([expect.stringContaining('a history that cannot be had')]);
    const { searchAttributes } = await kiln.temporal.workflow.getHandle(`maintenance/run-${runs}`).describe();
    expect(searchAttributes.KilnAttention).toEqual(['MAINTENANCE']);
    // The next scan begins at the close of the workload that failed, however short the overlap is.
    expect((await maintain({ policies: { overlapMs: 0 } })).recorded).toMatchObject({ workflows: 1, failed: 0 });
    expect(await Promise.all(['cannot-1', 'can-2'].map(archived))).toEqual([true, true]);
  });

  it.each([
    ['archive.saveExecution', 'before'],
    ['archive.saveExecution', 'after'],
    ['archive.saveWhole', 'before'],
    ['archive.saveWhole', 'after'],
    ['closed.settleResult', 'after'],
  ] as const)('a try that fails at %s %s is made again', async (port, moment) => {
    const id = `again-${port.toLowerCase().replace('.', '-')}-${moment}`;
    await makeOver([id]);
    gates.failOnce(port, moment, () => new KilnError('STORE_UNAVAILABLE', 'the store was away'));
    expect((await maintain()).problems).toEqual([]);
    expect(await archived(id)).toBe(true);
  });

  it('keeps a result of what was terminated, and tells once what it held is gone', async () => {
    for (const id of ['ended-a', 'ended-b']) {
      await kiln.workloads.create({ servicePath: 'plain' }, id);
      await kiln.untilStage(id, 'running');
      await kiln.temporal.workflow.getHandle(`workload/${id}`).terminate('by hand');
    }
    const recordNow = createRecordNow({ client: kiln.temporal, timings: DEFAULT_CLIENT_TIMINGS }, { policies: QUICK });
    const freed = async (id: string) => {
      const written = (await kiln.store.list(storeKeys.workloadResult(id))).objects.length;
      return written === 0 ? 0 : ((await kiln.workloads.get(id)).releases?.length ?? 0);
    };
    // Repeat until their end is indexed and the grace of the sweep is over.
    await expect
      .poll(
        async () => {
          await recordNow(20_000);
          return await Promise.all(['ended-a', 'ended-b'].map(freed));
        },
        { timeout: 30_000 },
      )
      .toEqual([1, 1]);
    expect((await kiln.workloads.get('ended-a')).state).toMatchObject({
      stage: 'failed',
      failure: { code: 'TERMINATED', stage: 'running' },
      unreleased: [{ name: 'whatever it held', hostId: 'h1' }],
    });
  });
});

describe('what could not be released in time', () => {
  it('is told to be gone once its host has come back and freed it, in details and lists', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'left-behind');
    await kiln.untilStage('left-behind', 'running');
    await kiln.stopHost();
    const state = await kiln.untilStage('left-behind', 'failed');
    expect(state.unreleased).toMatchObject([{ hostId: 'h1' }]);
    const attention = async () =>
      (await kiln.workloads.list({ limit: 50 })).items.find(({ id }) => id === 'left-behind')?.attention;
    await expect.poll(attention, { timeout: 20_000 }).toBe('UNRELEASED');
    const silent = await maintain();
    expect(silent).toMatchObject({ hosts: [{ hostId: 'h1', swept: false, held: 1 }], problems: [] });
    expect((await kiln.workloads.get('left-behind')).releases).toBeUndefined();
    await kiln.startHost();
    // Repeat until the grace of the sweep is over; the host's own sweeps may be quicker.
    await expect
      .poll(
        async () => {
          await maintain();
          return (await kiln.workloads.get('left-behind')).releases;
        },
        { timeout: 30_000 },
      )
      .toMatchObject([{ hostId: 'h1', freedAt: expect.any(String) }]);
    expect(await attention()).toBeUndefined();
    expect(await kiln.left()).toEqual([]);
  });
});

describe('a machine that slept', () => {
  it('loses nothing: an entry that is hours old proves no loss by itself', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'slept');
    const { vm } = await kiln.untilStage('slept', 'running');
    // Wait until the supervision has begun: otherwise it would simply begin after the restart.
    await expect.poll(() => isWatched(kiln.temporal, 'slept'), { timeout: 20_000 }).toBe(true);
    // Its supervisor is silent, as during a sleep; after it, ten looks in a row find an entry that is hours old.
    asleepMs = Array.from({ length: 10 }, () => 5 * 3_600_000);
    await kiln.restartHost();
    await expect.poll(() => asleepMs.length, { timeout: 20_000 }).toBe(0);
    const after = await kiln.untilStage('slept', 'running');
    expect(after.vm).toEqual(vm);
    await kiln.workloads.stop('slept', { waitMs: 20_000 });
  });
});

describe('what is old', () => {
  it('is removed where that was asked for, and nothing of what is open', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'open-log');
    await kiln.untilStage('open-log', 'running');
    const linesOf = async (id: string) => (await kiln.store.list(storeKeys.logs(id))).objects.length;
    await expect.poll(() => linesOf('open-log'), { timeout: 20_000 }).toBeGreaterThan(0);
    expect(await linesOf('slept')).toBeGreaterThan(0);
    const report = await maintain({ keep: { logsMs: 0, sourcesMs: 1_000 }, policies: { pruneStep: 3 } }, 'whole');
    expect(report).toMatchObject({ hosts: [{ swept: true }], pruned: { sources: 0 }, problems: [] });
    expect(report.pruned.logs).toBeGreaterThan(0);
    expect([await linesOf('slept'), (await linesOf('open-log')) > 0]).toEqual([0, true]);
    await kiln.workloads.stop('open-log', { waitMs: 20_000 });
  });
});

describe('saves of sessions', () => {
  const keep = { saveGarbageMs: 0 };
  const policies = { pruneStep: 1, repairEveryMs: 0 };
  const salt = '0'.repeat(64);
  const named = (thread: string) => ({ project: 'default', thread, incarnation: 1 });

  it('are freed of what nobody needs, thread by thread; what is damaged is told', async () => {
    const heads = createSaveHeads(kiln.store);
    for (const thread of ['one', 'two']) {
      await heads.claim(named(thread), 2, salt);
      await kiln.store.putBlob(storeKeys.savePack(named(thread), '1-1-0-0'), { data: Buffer.from('garbage') });
    }
    const packs = async (thread: string) => (await kiln.store.list(storeKeys.savePacks(named(thread)))).objects.length;
    const run = () => maintain({ keep, policies, sweepHosts: false });
    // What was written in this very second is not old.
    let removed = 0;
    const untilRemoved = async () => {
      removed += (await run()).pruned.saves ?? 0;
      return removed;
    };
    await expect.poll(untilRemoved, { timeout: 20_000 }).toBe(2);
    expect([await packs('one'), await packs('two')]).toEqual([0, 0]);
    const save = { turn: 1, saveId: '2-1-0', treeSha256: salt };
    await heads.advance(named('one'), { save, saltHex: salt, packs: [], nowMs: Date.now() });
    await kiln.store.putBlob(storeKeys.savePack(named('one'), '1-1-0-0'), { data: Buffer.from('garbage') });
    const untilTold = async () => (await run()).problems;
    await expect
      .poll(untilTold, { timeout: 20_000 })
      .toEqual([expect.stringContaining('session/default/one/1: The saved workspace is damaged')]);
    expect(await packs('one')).toBe(1);
  });

  it('are not looked at by a run that removes nothing', async () => {
    expect((await maintain({ sweepHosts: false })).pruned).toEqual({ logs: 0, sources: 0 });
  });
});

describe('the schedule', () => {
  it('is made once, found again, changed with its settings, and runs by itself', async () => {
    const input: MaintenanceInput = { schemaVersion: 1, keep: { logsMs: 1_000_000 }, policies: QUICK };
    const made = await Promise.all(
      [1, 2, 3].map(() => ensureMaintenanceSchedule(kiln.temporal, { everyMs: 3_600_000, input })),
    );
    expect(made.sort()).toEqual(['found', 'found', 'made']);
    const handle = kiln.temporal.schedule.getHandle(MAINTENANCE_SCHEDULE);
    await handle.pause('an operator is at work');
    expect(await ensureMaintenanceSchedule(kiln.temporal, { everyMs: 1_000, input })).toBe('changed');
    expect((await handle.describe()).state.paused).toBe(true);
    await handle.unpause();
    await expect
      .poll(async () => (await handle.describe()).info.recentActions.length, { timeout: 30_000 })
      .toBeGreaterThan(0);
    await handle.delete();
  });

  it('refuses an input that makes no sense, at once', async () => {
    const args = [{ schemaVersion: 1, keep: { logsMs: -1 } }];
    const run = kiln.temporal.workflow.execute('maintenanceWorkflow', {
      args,
      taskQueue: CONTROL_QUEUE,
      workflowId: 'maintenance/bad',
    });
    await expect(run).rejects.toMatchObject({ cause: { type: 'SPEC_INVALID' } });
  });

  it('left only histories that replay', async () => {
    await kiln.judge();
  });
});
