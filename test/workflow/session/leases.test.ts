/** A host that nobody tells any more whose VM it is: its sessions' VMs stand still until somebody does. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { KilnError } from '../../../domain/failures.ts';
import { sessionWorkflowId, type ThreadName } from '../../../domain/names.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { createSaveHeads } from '../../../store/sessions/saves/heads.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import {
  closeAll,
  ended,
  openGate,
  ran,
  shell,
  threadNamed,
  untilRun,
  untilTier,
} from '../../support/workers/session-steps.ts';

const LEASE_MS = 600;

/** What the host can reach now. */
const reach = { temporal: true, store: true };
/** Questions to Temporal about whose VM it is. */
let asked = 0;
let kiln: Harness;

/** Only what leases ask for is cut off: heads. */
function cut(store: ObjectStore): ObjectStore {
  const readDocument: ObjectStore['readDocument'] = async (key, schema) => {
    if (!reach.store && key.endsWith('/head.json')) throw new KilnError('STORE_UNAVAILABLE', 'It is cut off.');
    return store.readDocument(key, schema);
  };
  return Object.create(store, { readDocument: { value: readDocument } });
}

beforeAll(async () => {
  kiln = await startHarness({
    hostSettings: { leases: { leaseMs: LEASE_MS, lookMs: 100, askMs: 200 } },
    owners: (real) => ({
      ...real,
      async lookup(owner) {
        asked += 1;
        return reach.temporal ? real.lookup(owner) : 'unreadable';
      },
    }),
    hostStore: cut,
  });
});
afterEach(() => Object.assign(reach, { temporal: true, store: true }));
afterAll(() => kiln.close());

const sessionOf = (name: ThreadName) => ({ ...name, incarnation: 1 });
/** Counts in a file of the workspace until the gate is open: a guest that stands still does not count. */
const counting = shell('n=0; until [ -e /tmp/go ]; do n=$((n+1)); echo $n > count; sleep 0.02; done');

async function running(thread: string): Promise<{ name: ThreadName; vmId: string }> {
  const name = threadNamed(thread);
  await kiln.sessions.send(name, { id: 'one', command: counting });
  const run = await untilRun(kiln.sessions, name, 'one', 'running');
  return { name, vmId: run.state === 'running' ? run.run.vm.vmId : '' };
}
const stateOf = async (vmId: string) => (await kiln.host.vms.status(vmId)).state;
const until = async (vmId: string, state: string) => {
  while ((await stateOf(vmId)) !== state) await delay(10);
};
/** Lets the run end. @returns its end */
async function finish({ name, vmId }: { name: ThreadName; vmId: string }) {
  await openGate(kiln.stateDir, vmId, 'go');
  return ended(kiln.sessions, name, 'one');
}

describe('the VM of a session in its run', () => {
  it('runs on while Temporal alone is away, and then the head is its own', async () => {
    const vm = await running('temporal-away');
    reach.temporal = false;
    const before = asked;
    // Many leases long.
    while (asked < before + 30) {
      expect(await stateOf(vm.vmId)).toBe('running');
      await delay(20);
    }
    expect((await createSaveHeads(kiln.store).read(sessionOf(vm.name)))?.epoch).toBe(1);
    expect(await finish(vm)).toMatchObject({ outcome: { as: 'finished', code: 0 }, vm: { vmId: vm.vmId } });
  });

  it('stands still once the store is away, too, and goes on in the same run when one of them is back', async () => {
    for (const back of ['temporal', 'store'] as const) {
      const vm = await running(`both-away-until-${back}`);
      Object.assign(reach, { temporal: false, store: false });
      await until(vm.vmId, 'paused');
      await openGate(kiln.stateDir, vm.vmId, 'go');
      await delay(LEASE_MS);
      expect(await stateOf(vm.vmId)).toBe('paused');
      expect((await kiln.sessions.run(vm.name, 'one')).run.state).toBe('running');
      reach[back] = true;
      expect(await ended(kiln.sessions, vm.name, 'one')).toMatchObject({
        outcome: { as: 'finished', code: 0 },
        vm: { vmId: vm.vmId },
      });
      reach.temporal = true;
    }
  });

  it('stands still at once where another placement has claimed the head, and Temporal does not know better', async () => {
    const vm = await running('claimed');
    reach.temporal = false;
    await createSaveHeads(kiln.store).claim(sessionOf(vm.name), 2, 'ab'.repeat(32));
    await until(vm.vmId, 'paused');
    const before = asked;
    while (asked < before + 10) await delay(20);
    expect(await stateOf(vm.vmId)).toBe('paused');
    expect((await createSaveHeads(kiln.store).read(sessionOf(vm.name)))?.epoch).toBe(2);
  });

  it('goes on after its host was started again meanwhile', async () => {
    const vm = await running('restarted');
    Object.assign(reach, { temporal: false, store: false });
    await until(vm.vmId, 'paused');
    // The call of the run is made again, which says as much as either of the two.
    await kiln.restartHost();
    await until(vm.vmId, 'running');
    expect(await finish(vm)).toMatchObject({ outcome: { as: 'finished', code: 0 }, vm: { vmId: vm.vmId } });
  });

  it('is paused where its workflow is over', async () => {
    const vm = await running('terminated');
    await kiln.temporal.workflow.getHandle(sessionWorkflowId(sessionOf(vm.name))).terminate();
    await until(vm.vmId, 'paused').catch(() => undefined);
    while ((await kiln.left()).some((line) => line.includes(vm.vmId))) await delay(50);
  });
});

it('a VM at rest needs nobody, and is not woken by anybody', async () => {
  const name = threadNamed('rests');
  await ran(kiln.sessions, name, 'one', shell('true'));
  const { state } = await untilTier(kiln.sessions, name, 'warm');
  const vmId = state?.place?.vmId ?? '';
  Object.assign(reach, { temporal: false, store: false });
  await delay(2 * LEASE_MS);
  Object.assign(reach, { temporal: true, store: true });
  await delay(LEASE_MS);
  expect(await stateOf(vmId)).toBe('paused');
  expect((await ran(kiln.sessions, name, 'two', shell('true'))).vm).toMatchObject({ vmId });
});

it('leaves nothing, and histories that replay', async () => {
  await closeAll(kiln.sessions);
  while ((await kiln.left()).length > 0) await delay(100);
  await kiln.judge();
});
