import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createCapacityLedger, type HostCapacityLedger } from '../../../../host/capacity/ledger.ts';

let stateDir: string;
/** Wall clock; `awake` is the monotonic clock. Both in ms. */
let now: number;
let awake: number;
let withVm: Set<string>;
let looks: number;
let ledger: HostCapacityLedger;

const open = () =>
  createCapacityLedger({
    stateDir,
    capacity: { vcpus: 4, memMib: 2000 },
    vmOverheadMib: 100,
    lookAtVms: async () => {
      looks += 1;
      return ({ id }) => withVm.has(id);
    },
    now: () => now,
    awake: () => awake,
  });
const pass = (ms: number) => {
  now += ms;
  awake += ms;
};
const ask = (id: string, memMib: number, more: { vcpus?: number; owner?: string; ttlMs?: number } = {}) =>
  ledger.reserve({
    id,
    ownerWorkflowId: more.owner ?? `workload/${id}`,
    resources: { vcpus: more.vcpus ?? 1, memMib },
    ttlMs: more.ttlMs ?? 1000,
  });

beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'kl-'));
  now = Date.parse('2026-01-01T00:00:00Z');
  awake = 5_000;
  withVm = new Set();
  looks = 0;
  ledger = open();
});
afterEach(() => rm(stateDir, { recursive: true, force: true }));

describe('the line for larger reservations', () => {
  const wake = (id: string, memMib: number, waitsMs = 1000) =>
    ledger.reserve({ id, ownerWorkflowId: `workload/${id}`, resources: { vcpus: 1, memMib }, ttlMs: 10_000, waitsMs });
  const rest = (id: string) =>
    ledger.reserve({
      id,
      ownerWorkflowId: `workload/${id}`,
      resources: { vcpus: 0, memMib: 50 },
      ttlMs: 10_000,
      atRest: true,
    });

  it('goes by age: neither a later one nor a new reservation takes what an earlier one waits for', async () => {
    for (const id of ['a', 'b', 'c']) expect(await rest(id)).toBe(true);
    expect(await ask('full', 1300)).toBe(true);
    expect(await wake('a', 900)).toBe(false);
    expect(await wake('b', 100)).toBe(false);
    expect(await ask('new', 100)).toBe(false);
    expect([ledger.ahead('a'), ledger.ahead('b'), ledger.ahead('new')]).toEqual([0, 1, 2]);
    await ledger.release('full');
    expect((await ledger.totals()).free.memMib).toBe(2000 - 1000 - 200 - 50 - 100);
    expect(await ask('new', 700)).toBe(false);
    expect(await wake('b', 100)).toBe(true);
    expect(await wake('a', 900)).toBe(true);
    expect(ledger.ahead('new')).toBe(0);
  });

  it('has nothing against who gives back, and forgets who does not ask again or is gone', async () => {
    expect(await rest('a')).toBe(true);
    expect(await ask('full', 1700)).toBe(true);
    expect(await wake('a', 900)).toBe(false);
    expect(await rest('full')).toBe(true);
    expect(await ask('new', 900)).toBe(false);
    pass(1001);
    expect(await ask('new', 900)).toBe(true);
    expect(await wake('a', 900)).toBe(false);
    expect(ledger.ahead('other')).toBe(1);
    await ledger.release('a');
    expect(ledger.ahead('other')).toBe(0);
  });

  it('tells who waits when something is freed', async () => {
    const never = new AbortController().signal;
    const expired = () => {
      pass(11);
      return ledger.prune();
    };
    await ask('a', 100, { ttlMs: 10 });
    await ask('b', 100);
    await ask('c', 100);
    for (const free of [() => ledger.release('b'), () => rest('c'), expired]) {
      const freed = ledger.freed(never);
      await free();
      await freed;
    }
  });
});

describe('capacity ledger', () => {
  it('counts the guest and the cost of its VMM', async () => {
    expect(await ask('a', 900)).toBe(true);
    expect(await ask('b', 901)).toBe(false);
    expect(await ask('b', 900)).toBe(true);
    expect(await ledger.totals()).toEqual({
      capacity: { vcpus: 4, memMib: 1900 },
      free: { vcpus: 2, memMib: 0 },
    });
  });

  it('refuses at once what could never be held beside a reservation that stays, and lets wait what could', async () => {
    await ask('service', 900);
    await ask('other', 900);
    const builder = { id: 'builder', ownerWorkflowId: 'workload/service', ttlMs: 1000, beside: 'service' };
    expect(await ledger.reserve({ ...builder, resources: { vcpus: 1, memMib: 900 } })).toBe(false);
    await expect(ledger.reserve({ ...builder, resources: { vcpus: 1, memMib: 901 } })).rejects.toMatchObject({
      code: 'NO_CAPACITY',
    });
    await expect(ledger.reserve({ ...builder, resources: { vcpus: 4, memMib: 1 } })).rejects.toMatchObject({
      code: 'NO_CAPACITY',
    });
  });

  it('gives nothing new where the machine has no memory, and renews what it gave', async () => {
    let hasMemory = true;
    const options = {
      stateDir,
      capacity: { vcpus: 4, memMib: 2000 },
      vmOverheadMib: 100,
      lookAtVms: async () => () => true,
    };
    ledger = createCapacityLedger({ ...options, hasMemory: () => hasMemory, now: () => now });
    expect(await ask('a', 100)).toBe(true);
    hasMemory = false;
    expect(await ask('b', 100)).toBe(false);
    expect(await ask('a', 100)).toBe(true);
    expect(await ask('a', 200)).toBe(true);
  });

  it('removes what a writing left that a crash interrupted, and nothing else', async () => {
    await ask('a', 512);
    const left = join(stateDir, 'reservations', 'a.json.123456');
    await writeFile(left, '{');
    const reopened = open();
    expect((await reopened.list()).map(({ id }) => id)).toEqual(['a']);
    expect(await readdir(join(stateDir, 'reservations'))).toEqual(['a.json']);
  });

  it('what it says to be free is what it then gives', async () => {
    await ask('a', 512);
    const { free } = await ledger.totals();
    expect(await ask('b', free.memMib + 1)).toBe(false);
    expect(await ask('b', free.memMib)).toBe(true);
  });

  it('counts vCPUs', async () => {
    expect(await ask('a', 100, { vcpus: 4 })).toBe(true);
    expect(await ask('b', 100)).toBe(false);
  });

  it('finds a known id again, renewed, also when the host is full', async () => {
    expect(await ask('a', 1900)).toBe(true);
    pass(900);
    expect(await ask('a', 1900)).toBe(true);
    pass(900);
    expect(await ask('b', 100)).toBe(false);
    expect((await ledger.list()).map(({ id }) => id)).toEqual(['a']);
  });

  it('refuses an id of another owner', async () => {
    await ask('a', 100);
    await expect(ask('a', 100, { owner: 'workload/other' })).rejects.toMatchObject({ code: 'CONFLICT' });
  });

  it('of many at once only as many as fit get a place', async () => {
    const granted = await Promise.all(Array.from({ length: 10 }, (_, index) => ask(`r${index}`, 400)));
    expect(granted.filter(Boolean)).toHaveLength(4);
    expect(await readdir(join(stateDir, 'reservations'))).toHaveLength(4);
  });

  it('outlives the process', async () => {
    await ask('a', 1900);
    ledger = open();
    expect(await ask('b', 100)).toBe(false);
    await ledger.release('a');
    ledger = open();
    expect(await ask('b', 100)).toBe(true);
  });

  it('an expired reservation makes room, unless a VM lives on it', async () => {
    await ask('a', 900);
    await ask('b', 900);
    withVm.add('a');
    pass(1001);
    expect(await ledger.prune()).toEqual(['b']);
    expect(looks).toBe(1);
    expect(await ask('c', 900)).toBe(true);
    expect(await ask('d', 900)).toBe(false);
  });

  it('does not expire while the machine sleeps, and no longer lives where its clock is set back', async () => {
    await ask('a', 900);
    now += 5 * 3_600_000;
    expect(await ledger.prune()).toEqual([]);
    expect(looks).toBe(0);
    now -= 9 * 3_600_000;
    awake += 1001;
    expect(await ledger.prune()).toEqual(['a']);
    await ask('b', 900);
    now -= 3_600_000;
    ledger = open();
    expect((await ledger.list()).map(({ id }) => id)).toEqual(['b']);
    awake += 1001;
    expect(await ledger.prune()).toEqual(['b']);
  });

  it('release is idempotent, and an odd id never becomes a path', async () => {
    await ledger.release('unknown');
    await expect(Promise.resolve().then(() => ask('../x', 1))).rejects.toMatchObject({ code: 'SPEC_INVALID' });
  });

  it('a damaged record is named, not overlooked: what it holds is not free', async () => {
    await mkdir(join(stateDir, 'reservations'), { recursive: true });
    await writeFile(join(stateDir, 'reservations', 'x.json'), '{"id":');
    await expect(ledger.totals()).rejects.toMatchObject({
      code: 'INTERNAL',
      message: expect.stringContaining('x.json'),
    });
  });
});
