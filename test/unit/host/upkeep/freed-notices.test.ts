import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { defined } from '../../../../domain/defined.ts';
import { KilnError } from '../../../../domain/failures.ts';
import { shortHash } from '../../../../domain/names.ts';
import type { VmOwner } from '../../../../domain/vm.ts';
import type { Reservation } from '../../../../host/capacity/ledger.ts';
import { createFreedNotices } from '../../../../host/upkeep/freed-notices.ts';
import { createSweep } from '../../../../host/upkeep/sweep.ts';
import type { VmInspection } from '../../../../ports/vm-driver.ts';
import { silentLogger } from '../../../support/workers/silent-logger.ts';

const HASH = shortHash('workload/gone');
const owner: VmOwner = {
  workflowId: 'workload/gone',
  firstExecutionId: 'first',
  namespaceId: 'ns',
  epoch: 1,
  boot: 1,
  role: 'service',
};
let root: string;
let records: Map<string, VmInspection | 'damaged'>;
let reservations: Reservation[];
let noted: { workloadId: string; hostId: string }[];
let ends: Map<string, { unreleased: { name: string; hostId: string; message: string }[] }>;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kr-'));
  records = new Map();
  reservations = [];
  noted = [];
  ends = new Map([['gone', { unreleased: [{ name: 'reservation', hostId: 'h1', message: 'no answer' }] }]]);
});
afterEach(async () => {
  vi.useRealTimers();
  await rm(root, { recursive: true, force: true });
});

const places = () => ({ stateDir: join(root, 'state'), runtimeDir: join(root, 'run') });
const driver = {
  status: async () => ({ state: 'gone' as const }),
  listGroups: async () => [],
  list: async () => [...records.keys()],
  inspect: async (vmId: string) => {
    const found = records.get(vmId);
    if (found === 'damaged') throw new KilnError('INTERNAL', `${vmId} is damaged`);
    return found;
  },
};
const inspection = (vmId: string): VmInspection => ({ vmId, owner, imageDigest: 'sha256:0', createdAt: '' });
const reservation = (id: string): Reservation => ({
  id,
  ownerWorkflowId: 'workload/gone',
  resources: { vcpus: 1, memMib: 1 },
  expiresAt: '',
  createdAt: '',
});
const settle = (workloadIds: string[]) =>
  createFreedNotices({
    ...places(),
    hostId: 'h1',
    driver,
    ledger: { list: async () => reservations },
    records: {
      result: async (id) => ends.get(id),
      noteFreed: async ({ workloadId, hostId }) => void noted.push({ workloadId, hostId }),
    },
  }).settle(workloadIds);

describe('releases', () => {
  it('are told where nothing is held any more', async () => {
    expect(await settle(['gone', 'gone'])).toEqual({ freed: ['gone'], held: [] });
    expect(noted).toEqual([{ workloadId: 'gone', hostId: 'h1' }]);
  });

  it.each<[string, () => unknown]>([
    ['a reservation', () => reservations.push(reservation(`${HASH}-1`))],
    ['a record', () => records.set('x-1-1', inspection('x-1-1'))],
    ['a directory without a record', () => mkdir(join(root, 'state', 'vms', `${HASH}-1-1`), { recursive: true })],
    ['sockets', () => mkdir(join(root, 'run', `${HASH}-2-1`), { recursive: true })],
  ])('are not told while there is %s of it', async (_what, leave) => {
    await leave();
    expect(await settle(['gone'])).toEqual({ freed: [], held: ['gone'] });
    expect(noted).toEqual([]);
  });

  it('are not told where a record cannot be read: whose it is cannot be known', async () => {
    records.set('y-1-1', 'damaged');
    await expect(settle(['gone'])).rejects.toMatchObject({ code: 'INTERNAL' });
    expect(noted).toEqual([]);
  });

  it('are told of nobody who is not over, or whose end names another host', async () => {
    ends.set('elsewhere', { unreleased: [{ name: 'r', hostId: 'h2', message: '' }] });
    ends.set('clean', { unreleased: [] });
    expect(await settle(['open', 'elsewhere', 'clean'])).toEqual({ freed: [], held: [] });
  });
});

describe('a sweep on a machine that slept', () => {
  function sweep(now?: () => number) {
    const destroyed: string[] = [];
    const vms = {
      isAttached: () => true,
      isBusy: () => false,
      adopt: async (vmId: string) => ({ vmId, adopted: true }),
      release: async (vmId: string) => {
        destroyed.push(vmId);
        records.delete(vmId);
      },
    };
    const ledger = {
      list: async () => reservations,
      prune: async () => [],
      release: async (id: string) => {
        reservations = reservations.filter((held) => held.id !== id);
      },
    };
    const options = {
      ...places(),
      graceMs: 60_000,
      maxDestroys: 5,
      driver,
      vms,
      ledger,
      logger: silentLogger,
      owners: { lookup: async () => 'over' as const },
      onAdopted: async () => undefined,
      ...defined({ now }),
    };
    return { run: createSweep(options).run, destroyed };
  }

  it('gives a VM its whole grace, whatever the clock on the wall says', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    records.set(`${HASH}-1-1`, inspection(`${HASH}-1-1`));
    const { run, destroyed } = sweep();
    for (const hours of [0, 5, -9]) {
      vi.setSystemTime(Date.now() + hours * 3_600_000);
      await run();
    }
    expect(destroyed).toEqual([]);
  });

  it('frees VM and reservation together once the grace is over, and says whose they were', async () => {
    let awake = 0;
    records.set(`${HASH}-1-1`, inspection(`${HASH}-1-1`));
    reservations.push(reservation(`${HASH}-1`), reservation(`${HASH}-2`));
    const { run, destroyed } = sweep(() => awake);
    await run();
    awake += 60_000;
    expect(await run()).toMatchObject({ freedOf: ['workload/gone'], released: [`${HASH}-1`] });
    expect(destroyed).toEqual([`${HASH}-1-1`]);
    expect(reservations.map(({ id }) => id)).toEqual([`${HASH}-2`]);
  });
});
