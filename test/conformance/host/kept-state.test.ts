/**
 * Today's code on the state that an earlier Kiln has left on a machine and in the store: every document is read, ended
 * workloads and sessions can be read, running ones are adopted, VMs of sessions wait on, and in the end nothing is left.
 * Such states: `npm run keep-state`.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { createKilnClient, type KilnClient } from '../../../client/http/kiln-client.ts';
import { createSessionClient } from '../../../client/temporal/sessions/session-client.ts';
import { createWorkloadClient } from '../../../client/temporal/workloads/workload-client.ts';
import { sessionNameOf } from '../../../domain/names.ts';
import { createGateway, type Gateway } from '../../../gateway/gateway.ts';
import { hostLogsOverHttp } from '../../../gateway/logs/host-logs.ts';
import { filesOverHttp } from '../../../gateway/sessions/host-files.ts';
import { runOutputOverHttp } from '../../../gateway/sessions/host-run-output.ts';
import type { Host } from '../../../host/host.ts';
import type { OwnerLookup } from '../../../host/upkeep/sweep.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { createRunOutputs, type RunWithOutput } from '../../../store/sessions/run-outputs.ts';
import { createWorkloadDocuments } from '../../../store/workloads/workload-documents.ts';
import { repeatingApi } from '../../support/gateway/repeating-api.ts';
import {
  createFakeHost,
  type FakeHostPlaces,
  fakeDriverAt,
  HOST_TOKEN,
  placesBelow,
} from '../../support/host/fake-host.ts';
import {
  fillStore,
  type KeptSession,
  type KeptState,
  keptStates,
  layOutHost,
  readKept,
  type StandIn,
  startStandIns,
} from '../../support/host/kept-state.ts';
import { whatIsLeft } from '../../support/host/nothing-left.ts';
import { freshObjectStore } from '../../support/servers/object-store.ts';
import { sessionBooksOf } from '../../support/workers/harness-workers.ts';
import { makeNamespace } from '../../support/workers/kiln-harness.ts';
import { silentLogger } from '../../support/workers/silent-logger.ts';

const TOKEN = 'a-token-of-the-kept-state';
const RUNNING = 'workload/running-1';
const OVER = 'workload/over-1';
const HOST_ANSWERS_MS = 3_000;
const SHIP_EVERY_MS = 20;

type AtRest = NonNullable<KeptState['atRest']>;

const states = await Promise.all((await keptStates()).map(readKept));

describe.each(states)('the state that $name has left', (kept) => {
  let places: FakeHostPlaces;
  let store: ObjectStore;
  let standIns: StandIn[];
  let host: Host;
  let connection: Connection;
  let gateway: Gateway;
  let api: KilnClient;
  const owners = ownersKnown();

  beforeAll(async () => {
    places = placesBelow(await mkdtemp(join(tmpdir(), 'kks-')));
    store = await freshObjectStore();
    await fillStore(store, kept);
    await layOutHost(places, kept);
    standIns = await startStandIns(places, kept);
    for (const { owner } of standIns) if (owner.workflowId !== OVER) owners.open.set(owner.workflowId, owner);
    host = await createFakeHost(places, {
      store,
      hostId: kept.hostId,
      driver: fakeDriverAt(places),
      owners,
      settings: {
        logs: { flushMs: 1, reattachPauseMs: 1, shipEveryMs: SHIP_EVERY_MS },
        runs: { shipping: { everyMs: SHIP_EVERY_MS, chunkBytes: 1024 * 1024, keepMs: 3_600_000 } },
      },
    });
    connection = await Connection.connect({ address: inject('temporalAddress') });
    // A namespace that has never seen any of these workloads, as if Temporal had forgotten them.
    const client = new Client({ connection, namespace: await makeNamespace(connection) });
    gateway = createGateway({
      workloads: createWorkloadClient({ client, archive: createWorkloadDocuments(store) }),
      store,
      sessions: {
        client: createSessionClient({ client, books: sessionBooksOf(store, {}) }),
        followOutput: runOutputOverHttp({ token: HOST_TOKEN, timeoutMs: HOST_ANSWERS_MS }),
        files: filesOverHttp({ token: HOST_TOKEN, timeoutMs: HOST_ANSWERS_MS }),
      },
      isPolled: async () => true,
      hostLogs: hostLogsOverHttp({ token: HOST_TOKEN, timeoutMs: HOST_ANSWERS_MS, maxBytes: 1_000_000 }),
      token: TOKEN,
      log: silentLogger,
      version: '0',
    });
    api = repeatingApi(
      createKilnClient({ apiUrl: await gateway.listen({ host: '127.0.0.1', port: 0 }), token: TOKEN }),
    );
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

  // An older state has none.
  const { sessions, atRest } = kept;
  if (sessions !== undefined) showsSessions(sessions, () => ({ api, store }));
  if (atRest !== undefined) {
    it('has the first lines of a run that wrote on while the store was silent', async () => {
      expect(await storedText(store, lastRunOf(atRest, standIns))).toBe('shipped\n');
    });
  }

  it('adopts the VM that runs with its port, and sweeps the one whose owner is over', async () => {
    const running = standIns.find(({ workflowId }) => workflowId === RUNNING);
    const over = standIns.find(({ workflowId }) => workflowId === OVER);
    if (running === undefined || over === undefined) throw new Error('the state holds no two VMs');
    const { adoptions } = await host.start();
    // Whether a session still has a claim to its VM, the host asks first.
    const services = standIns.filter(({ owner }) => owner.role === 'service').map(({ vmId }) => vmId);
    expect(adoptions.map(({ vmId }) => vmId).sort()).toEqual(services.sort());
    await host.sweep();
    expect(await host.vms.status(running.vmId)).toEqual({ state: 'running', pid: running.pid });
    expect(host.vms.isAttached(running.vmId)).toBe(true);
    expect(await host.vms.status(over.vmId)).toEqual({ state: 'gone' });
    const reservedFor = (await host.ledger.list()).map(({ ownerWorkflowId }) => ownerWorkflowId);
    expect(reservedFor.sort()).toEqual([...owners.open.keys()].sort());
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

  if (atRest !== undefined) keepsAtRest(atRest, () => ({ host, store, owners, standIns }));

  it('leaves nothing once all is released', async () => {
    for (const { vmId } of standIns) await host.vms.release(vmId, { graceMs: 0 });
    for (const { id } of await host.ledger.list()) await host.ledger.release(id);
    const ports = standIns.flatMap((standIn) => standIn.ports);
    expect(await whatIsLeft({ ...places, ports })).toEqual([]);
  });
});

/** The threads whose sessions had ended. The host is away: whatever is shown comes from the store. */
function showsSessions(sessions: Record<string, KeptSession>, now: () => { api: KilnClient; store: ObjectStore }) {
  const closed = { thread: 'closed-1' };
  const deleted = { thread: 'deleted-1' };

  it('shows a closed session and its runs as they were shown before, with their output', async () => {
    const { api } = now();
    const { session, runs, outputs } = sessionOf(sessions, closed);
    const { links: _, ...then } = session;
    expect(then).toMatchObject({ tier: 'closed', turns: 2 });
    expect(await api.getSession({ params: closed })).toMatchObject(then);
    expect(runs.map(({ exit }) => exit)).toMatchObject([{ code: 7 }, { code: 0 }]);
    expect((await api.listRuns({ params: closed })).items).toMatchObject(runs);
    for (const run of runs) {
      expect(await api.getRun({ params: { ...closed, id: run.id } })).toMatchObject(run);
      expect(await outputOf(api, closed.thread, run.id)).toEqual(outputs[run.id]);
    }
  });

  it('shows the run that had ended of a session that was open', async () => {
    const { api } = now();
    const { sent, runs, outputs } = sessionOf(sessions, { thread: 'warm-1' });
    const [id = ''] = sent.map((body) => body.id);
    const then = runs.find((run) => run.id === id);
    expect(then).toMatchObject({ state: 'finished', turn: 1 });
    expect(await api.getRun({ params: { thread: 'warm-1', id } })).toMatchObject(then ?? {});
    expect(await outputOf(api, 'warm-1', id)).toEqual(outputs[id]);
  });

  it('answers a run that is sent again with its end, and takes no other one', async () => {
    const { api } = now();
    const { sent, runs } = sessionOf(sessions, closed);
    expect(sent.map(({ id }) => id)).toEqual(['first', 'second']);
    for (const body of sent) {
      const then = runs.find(({ id }) => id === body.id);
      expect(then).toBeDefined();
      expect(await api.sendRun({ params: closed, body })).toMatchObject(then ?? {});
      const other = { ...body, command: [...body.command, 'other'] };
      await expect(api.sendRun({ params: closed, body: other })).rejects.toMatchObject({ code: 'CONFLICT' });
    }
    const third = { id: 'third', command: ['true'] };
    await expect(api.sendRun({ params: closed, body: third })).rejects.toMatchObject({ code: 'SESSION_CLOSED' });
  });

  it('knows nothing of a deleted session but that it was deleted', async () => {
    const { api, store } = now();
    const { session, runs, sent } = sessionOf(sessions, deleted);
    const { links: _, ...then } = session;
    expect(then).toMatchObject({ end: { as: 'deleted', emptiedAt: expect.any(String) } });
    expect(await api.getSession({ params: deleted })).toMatchObject(then);
    expect(runs).toEqual([]);
    expect((await api.listRuns({ params: deleted })).items).toEqual([]);
    for (const body of [...sent, { id: 'new', command: ['true'] }]) {
      await expect(api.getRun({ params: { ...deleted, id: body.id } })).rejects.toMatchObject({ code: 'NOT_FOUND' });
      const refused = api.sendRun({ params: deleted, body });
      await expect(refused).rejects.toMatchObject({ code: 'SESSION_CLOSED', details: { status: 410 } });
    }
    const keys: string[] = [];
    for await (const { key } of store.listAll('sessions/default/deleted-1/')) keys.push(key);
    expect(keys).toEqual(['sessions/default/deleted-1/session.json']);
  });
}

/** The host has started again, and finds the VM that waits paused. */
function keepsAtRest(
  atRest: AtRest,
  now: () => { host: Host; store: ObjectStore; owners: KnownOwners; standIns: readonly StandIn[] },
) {
  it('lets a paused VM wait on, as long as its session is open', async () => {
    const { host, owners, standIns } = now();
    const { vmId, workflowId, pid } = standInAtRest(atRest, standIns);
    for (const isListed of [true, false]) {
      owners.isListed = isListed;
      owners.asked.length = 0;
      const { adopted, destroyed, left, released } = await host.sweep();
      expect([...adopted, ...destroyed, ...left, ...released]).toEqual([]);
      // One that is in the index costs no call of its own.
      expect(owners.asked.includes(workflowId)).toBe(!isListed);
      expect(await host.vms.status(vmId)).toEqual({ state: 'paused', pid });
      expect(await reservedBy(host, workflowId)).toMatchObject([{ atRest: true, resources: { vcpus: 0 } }]);
    }
  });

  it('brings the output into the store that its host had not shipped', async () => {
    const { store, standIns } = now();
    const { outputs } = atRest;
    const run = lastRunOf(atRest, standIns);
    await expect.poll(() => storedText(store, run)).toBe(outputs[run.runId]?.stdout);
  });

  it('destroys a paused VM with its reservation once its session is over', async () => {
    const { host, owners, standIns } = now();
    const { vmId, workflowId } = standInAtRest(atRest, standIns);
    owners.open.delete(workflowId);
    await host.sweep();
    expect(await host.vms.status(vmId)).toEqual({ state: 'gone' });
    expect(await reservedBy(host, workflowId)).toEqual([]);
  });
}

interface KnownOwners extends Required<OwnerLookup> {
  readonly open: Map<string, StandIn['owner']>;
  /** Whether the index has the open ones. */
  isListed: boolean;
  /** Workflow ids that were asked for one by one. */
  readonly asked: string[];
}

function ownersKnown(): KnownOwners {
  const open: KnownOwners['open'] = new Map();
  const asked: string[] = [];
  return {
    open,
    asked,
    isListed: true,
    async lookup({ workflowId }) {
      asked.push(workflowId);
      return open.has(workflowId) ? 'open' : 'over';
    },
    async openHere() {
      return this.isListed ? open : new Map();
    },
  };
}

async function reservedBy(host: Host, owner: string) {
  return (await host.ledger.list()).filter(({ ownerWorkflowId }) => ownerWorkflowId === owner);
}

function standInAtRest({ listed }: AtRest, standIns: readonly StandIn[]): StandIn {
  const found = standIns.find(({ workflowId }) => sessionNameOf(workflowId)?.thread === listed.thread);
  if (found === undefined) throw new Error(`the state holds no VM of ${listed.thread}`);
  return found;
}

function lastRunOf(atRest: AtRest, standIns: readonly StandIn[]): RunWithOutput {
  const { vmId, workflowId } = standInAtRest(atRest, standIns);
  const session = sessionNameOf(workflowId);
  const [runId] = Object.keys(atRest.outputs);
  if (session === undefined || runId === undefined) throw new Error('the state holds no run that ended last');
  return { session, runId, vmId };
}

async function outputOf(api: KilnClient, thread: string, id: string) {
  const bytes = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
  for await (const chunk of api.session(thread).existing(id)) {
    if (chunk.gap) throw new Error(`${chunk.gap.bytes} bytes of ${id} are lost`);
    bytes[chunk.stream] = Buffer.concat([bytes[chunk.stream], chunk.bytes]);
  }
  return { stdout: bytes.stdout.toString('utf8'), stderr: bytes.stderr.toString('utf8') };
}

/** The output of a run that is in the store, of both streams. */
async function storedText(store: ObjectStore, run: RunWithOutput): Promise<string> {
  let text = '';
  for (let position = 0; ; ) {
    const pieces = await createRunOutputs(store).read(run, position);
    if (pieces.length === 0) return text;
    for (const piece of pieces) {
      if (piece.kind === 'gap') throw new Error(`${piece.bytes} bytes of ${run.runId} are lost`);
      text += piece.data.toString('utf8');
      position = piece.offset + piece.data.length;
    }
  }
}

function sessionOf(sessions: Record<string, KeptSession>, { thread }: { thread: string }): KeptSession {
  const session = sessions[thread];
  if (session === undefined) throw new Error(`the state holds no ${thread}`);
  return session;
}

function shownLines(kept: KeptState, id: string): string[] {
  return viewOf(kept, id).logs.map(({ message }) => message);
}

function viewOf({ views }: KeptState, id: string) {
  const view = views[id];
  if (view === undefined) throw new Error(`the state holds no ${id}`);
  return view;
}
