/**
 * Today's code on the state that an earlier Kiln has left on a machine and in the store: every document is read, ended
 * workloads can be read, running ones are adopted, and in the end nothing is left. Such states: `npm run keep-state`.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { createKilnClient, type KilnClient } from '../../../client/http/kiln-client.ts';
import { createWorkloadClient } from '../../../client/temporal/workloads/workload-client.ts';
import { createGateway, type Gateway } from '../../../gateway/gateway.ts';
import { hostLogsOverHttp } from '../../../gateway/logs/host-logs.ts';
import type { Host } from '../../../host/host.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { createWorkloadDocuments } from '../../../store/workloads/workload-documents.ts';
import {
  createFakeHost,
  type FakeHostPlaces,
  fakeDriverAt,
  HOST_TOKEN,
  placesBelow,
} from '../../support/host/fake-host.ts';
import {
  fillStore,
  type KeptState,
  keptStates,
  layOutHost,
  readKept,
  type StandIn,
  startStandIns,
} from '../../support/host/kept-state.ts';
import { whatIsLeft } from '../../support/host/nothing-left.ts';
import { freshObjectStore } from '../../support/servers/object-store.ts';
import { makeNamespace } from '../../support/workers/kiln-harness.ts';
import { silentLogger } from '../../support/workers/silent-logger.ts';

const TOKEN = 'a-token-of-the-kept-state';
const RUNNING = 'workload/running-1';

describe.each(await keptStates())('the state that %s has left', (name) => {
  let kept: KeptState;
  let places: FakeHostPlaces;
  let store: ObjectStore;
  let standIns: StandIn[];
  let host: Host;
  let connection: Connection;
  let gateway: Gateway;
  let api: KilnClient;

  beforeAll(async () => {
    kept = await readKept(name);
    places = placesBelow(await mkdtemp(join(tmpdir(), 'kks-')));
    store = await freshObjectStore();
    await fillStore(store, kept);
    await layOutHost(places, kept);
    standIns = await startStandIns(places, kept);
    host = await createFakeHost(places, {
      store,
      hostId: kept.hostId,
      driver: fakeDriverAt(places),
      owners: { lookup: async ({ workflowId }) => (workflowId === RUNNING ? 'open' : 'over') },
    });
    connection = await Connection.connect({ address: inject('temporalAddress') });
    // A namespace that has never seen any of these workloads, as if Temporal had forgotten them.
    const client = new Client({ connection, namespace: await makeNamespace(connection) });
    gateway = createGateway({
      workloads: createWorkloadClient({ client, archive: createWorkloadDocuments(store) }),
      store,
      isPolled: async () => true,
      hostLogs: hostLogsOverHttp({ token: HOST_TOKEN, timeoutMs: 3_000, maxBytes: 1_000_000 }),
      token: TOKEN,
      log: silentLogger,
      version: '0',
    });
    api = createKilnClient({ apiUrl: await gateway.listen({ host: '127.0.0.1', port: 0 }), token: TOKEN });
  });
  afterAll(async () => {
    await gateway.close();
    await connection.close();
    await host.detach();
    for (const { child } of standIns) child.kill('SIGKILL');
    store.close();
    await rm(places.root, { recursive: true, force: true });
  });

  it('shows what is over as it was shown before: state, moves, history', async () => {
    for (const id of ['stopped-1', 'failed-1']) {
      // Links lead to Temporal, which has forgotten the workload.
      const { links: _, ...then } = viewOf(kept, id);
      const now = await api.getWorkload({ params: { id } });
      expect(now).toMatchObject(then);
      const history = await api.workloadHistory({ params: { id } });
      // Events of a history have their own times.
      const moves = then.transitions.map(({ at: _at, ...move }) => move);
      expect(history).toMatchObject({ source: 'archive', moves });
    }
    expect(kept.views['failed-1']?.code).toBe('SERVICE_EXITED');
  });

  it('has every document of the store in a form that is read today', async () => {
    const { items: deployments } = await api.listDeployments();
    expect(deployments.map(({ id }) => id)).toEqual(['d-1']);
    expect((await api.listHosts()).items).toMatchObject([{ hostId: kept.hostId, driver: 'fake/none' }]);
    expect((await api.listImages()).items.map((image) => image.name)).toEqual(expect.arrayContaining(['node']));
    const source = kept.objects.map(({ key }) => /^sources\/(\w+)\/source\.json$/.exec(key)?.[1]).find(Boolean) ?? '';
    expect((await api.getSource({ params: { sha256: source } })).files).toBe(2);
    for (const id of Object.keys(kept.views)) {
      expect((await api.getWorkload({ params: { id } })).id).toBe(id);
    }
  });

  it('adopts the VM that runs with its port, and sweeps the one whose owner is over', async () => {
    const running = standIns.find(({ workflowId }) => workflowId === RUNNING);
    const over = standIns.find(({ workflowId }) => workflowId !== RUNNING);
    if (running === undefined || over === undefined) throw new Error('the state holds no two VMs');
    await host.start();
    await host.sweep();
    expect(await host.vms.status(running.vmId)).toEqual({ state: 'running', pid: running.pid });
    expect(host.vms.isAttached(running.vmId)).toBe(true);
    expect(await host.vms.status(over.vmId)).toEqual({ state: 'gone' });
    expect((await host.ledger.list()).map(({ ownerWorkflowId }) => ownerWorkflowId)).toEqual([RUNNING]);
    const left = await whatIsLeft({ ...places, ports: running.ports });
    expect(left).toContainEqual(`listener on port ${running.ports[0]}`);
    expect(left.filter((line) => line.includes(over.vmId))).toEqual([]);
  });

  it('has the whole log, with the lines that were not in the store yet', async () => {
    const lines = async (id: string) =>
      (await api.workloadLogs({ params: { id }, query: { limit: 1000 } })).entries.map(({ message }) => message);
    const unshipped = ['asked for /unshipped-1', 'asked for /unshipped-2', 'asked for /unshipped-3'];
    await expect.poll(() => lines('running-1')).toEqual(expect.arrayContaining(unshipped));
    for (const id of ['stopped-1', 'failed-1']) expect(await lines(id)).toEqual(shownLines(kept, id));
  });

  it('leaves nothing once all is released', async () => {
    for (const { vmId } of standIns) await host.vms.release(vmId, { graceMs: 0 });
    for (const { id } of await host.ledger.list()) await host.ledger.release(id);
    const ports = standIns.flatMap((standIn) => standIn.ports);
    expect(await whatIsLeft({ ...places, ports })).toEqual([]);
  });
});

function shownLines(kept: KeptState, id: string): string[] {
  return viewOf(kept, id).logs.map(({ message }) => message);
}

function viewOf({ views }: KeptState, id: string) {
  const view = views[id];
  if (view === undefined) throw new Error(`the state holds no ${id}`);
  return view;
}
