/** Files of sessions whose VM sleeps, or is gone, and of turns that are over: they come from the store. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createKilnClient } from '../../../client/http/kiln-client.ts';
import { fileListSchema, turnListSchema, turnViewSchema } from '../../../contracts/api/session-files.ts';
import { sessionWorkflowId, type ThreadName } from '../../../domain/names.ts';
import { repeatingApi } from '../../support/gateway/repeating-api.ts';
import { type SessionGateway, startSessionGateway } from '../../support/gateway/session-gateway.ts';
import { callingActivity } from '../../support/workers/calling-activity.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { PortGates } from '../../support/workers/port-gates.ts';
import { untilSaved as savedIn, writeBeside } from '../../support/workers/save-steps.ts';
import { closeAll, killVm, ran, shell, threadNamed, untilTier } from '../../support/workers/session-steps.ts';

const gates = new PortGates(callingActivity);
let kiln: Harness;
let gateway: SessionGateway;
beforeAll(async () => {
  kiln = await startHarness({ hostPorts: (ports) => gates.over(ports), controlPorts: (ports) => gates.over(ports) });
  gateway = await startSessionGateway(kiln);
});
afterAll(async () => {
  await gateway.close();
  await kiln.close();
});

const untilSaved = (name: ThreadName) => savedIn(kiln, name);
const ask = ({ thread }: ThreadName, path: string, init: RequestInit = {}) =>
  fetch(`${gateway.base}/api/sessions/${thread}/${path}`, {
    ...init,
    headers: { ...gateway.authorized, ...Object(init.headers) },
  });
const text = async (name: ThreadName, path: string) => (await ask(name, path)).text();
const names = async (name: ThreadName, path: string) =>
  fileListSchema.parse(await (await ask(name, path)).json()).items.map(({ kind, name: entry }) => `${kind} ${entry}`);
const turns = async (name: ThreadName) =>
  turnListSchema.parse(await (await ask(name, 'turns')).json()).items.map(({ turn }) => turn);
/** A call that wakes a session adds to its history. */
const eventsOf = async (name: ThreadName) =>
  (await kiln.temporal.workflow.getHandle(sessionWorkflowId({ ...name, incarnation: 1 })).describe()).historyLength;
const tierOf = async (name: ThreadName) => (await kiln.sessions.get(name)).state?.tier;

/** Three turns, all of them saved. @returns the session, which sleeps */
async function asleep(thread: string): Promise<ThreadName> {
  const name = threadNamed(thread);
  await ran(
    kiln.sessions,
    name,
    'one',
    shell('mkdir -p src; echo one > src/note; ln -s src/note link; ln src/note hard'),
  );
  await untilSaved(name);
  await ran(kiln.sessions, name, 'two', shell('echo two >> src/note'));
  await untilSaved(name);
  await ran(kiln.sessions, name, 'three', shell('rm link; head -c 300000 /dev/urandom > large; cp large copy'));
  await untilSaved(name);
  await kiln.sessions.sleep(name);
  await untilTier(kiln.sessions, name, 'cold');
  return name;
}

describe('a session that sleeps', () => {
  it('tells of its files, and sleeps on', async () => {
    const name = await asleep('cold');
    const reply = await ask(name, 'files/src/note');
    expect([reply.status, await reply.text()]).toEqual([200, 'one\ntwo\n']);
    expect(reply.headers.get('x-kiln-turn')).toBe('3');
    expect(await names(name, 'files')).toEqual(['file copy', 'file hard', 'file large', 'folder src']);
    expect(await names(name, 'files?dir=src')).toEqual(['file note']);
    const head = await ask(name, 'files/hard', { method: 'HEAD' });
    expect([head.headers.get('x-kiln-kind'), head.headers.get('content-length')]).toEqual(['file', '8']);
    expect((await ask(name, 'files/none')).status).toBe(404);
    expect(await tierOf(name)).toBe('cold');
  });

  it('gives parts of a file, as its VM does', async () => {
    const name = await asleep('ranges');
    const whole = Buffer.from(await (await ask(name, 'files/large')).arrayBuffer());
    const check = async () => {
      for (const [range, from, to] of [
        ['bytes=0-0', 0, 1],
        ['bytes=1000-99999', 1000, 100_000],
        ['bytes=299990-', 299_990, 300_000],
        ['bytes=-10', 299_990, 300_000],
        ['bytes=5-999999', 5, 300_000],
      ] as const) {
        const reply = await ask(name, 'files/large', { headers: { range } });
        expect([reply.status, reply.headers.get('content-range')]).toEqual([206, `bytes ${from}-${to - 1}/300000`]);
        expect(Buffer.from(await reply.arrayBuffer()).equals(whole.subarray(from, to))).toBe(true);
      }
      const behind = await ask(name, 'files/large', { headers: { range: 'bytes=300000-' } });
      expect([behind.status, behind.headers.get('content-range')]).toEqual([416, 'bytes */300000']);
      expect((await ask(name, 'files/large', { headers: { range: 'lines=1-2' } })).status).toBe(200);
    };
    await check();
    expect(await tierOf(name)).toBe('cold');
    await kiln.sessions.hold(name, { kind: 'readFiles', waitMs: 20_000 }, check);
  });

  it('that is woken by a file shows it, and what it had', async () => {
    const name = await asleep('woken');
    const put = await ask(name, 'files/new', {
      method: 'PUT',
      body: 'put',
      headers: { 'content-type': 'application/octet-stream' },
    });
    expect(put.status).toBe(201);
    expect([await text(name, 'files/new'), await text(name, 'files/src/note')]).toEqual(['put', 'one\ntwo\n']);
  });
});

describe('a session that rests', () => {
  it('is not woken for files that are saved; for one that is not, it is', async () => {
    const name = threadNamed('warm');
    await ran(kiln.sessions, name, 'one', shell('echo one > note'));
    await untilSaved(name);
    await untilTier(kiln.sessions, name, 'warm');
    const before = await eventsOf(name);
    const saved = await ask(name, 'files/note');
    expect([saved.headers.get('x-kiln-turn'), await saved.text()]).toEqual(['1', 'one\n']);
    expect(await names(name, 'files')).toEqual(['file note']);
    expect(await eventsOf(name)).toBe(before);

    const upload = gates.hold('sessions.saves.upload', 'before', { workloadId: name.thread });
    await ran(kiln.sessions, name, 'two', shell('echo two >> note'));
    await upload.reached;
    const unsaved = await ask(name, 'files/note');
    expect([unsaved.headers.get('x-kiln-turn'), await unsaved.text()]).toEqual([null, 'one\ntwo\n']);
    upload.release();
    await untilSaved(name);
    await untilTier(kiln.sessions, name, 'warm');
    expect((await ask(name, 'files/note')).headers.get('x-kiln-turn')).toBe('2');
  });

  it('shows what was written beside the runs at once', async () => {
    const name = threadNamed('beside');
    await ran(kiln.sessions, name, 'one', shell('echo one > note'));
    await untilSaved(name);
    await untilTier(kiln.sessions, name, 'warm');
    for (let n = 0; n < 5; n++) {
      await writeBeside(kiln, name, 'note', `text-${n}`);
      expect(await text(name, 'files/note')).toBe(`text-${n}\n`);
    }
  });
});

describe('a session that is over', () => {
  it('still tells of its files, and of its turns', async () => {
    const name = await asleep('closed');
    await kiln.sessions.close(name, { waitMs: 20_000 });
    expect(await text(name, 'files/src/note')).toBe('one\ntwo\n');
    expect(await text(name, 'turns/1/files/src/note')).toBe('one\n');
    const put = await ask(name, 'files/x', {
      method: 'PUT',
      body: 'x',
      headers: { 'content-type': 'application/octet-stream' },
    });
    expect(put.status).toBe(410);
    const never = threadNamed('closed-without-files');
    await kiln.sessions.create(never, {});
    await kiln.sessions.close(never, { waitMs: 20_000 });
    expect((await ask(never, 'files/x')).status).toBe(410);
    expect(await turns(never)).toEqual([]);
  });

  it('whose VM died without a save of the last turn shows the turn before', async () => {
    const name = threadNamed('died');
    await ran(kiln.sessions, name, 'one', shell('echo one > note'));
    await untilSaved(name);
    await kiln.sessions.hold(name, { kind: 'readFiles', waitMs: 20_000 }, () => killVm(kiln, name));
    await untilTier(kiln.sessions, name, 'cold');
    expect(await text(name, 'files/note')).toBe('one\n');
  });
});

describe('a turn', () => {
  it('is kept as it was, whatever came after it', async () => {
    const name = await asleep('turns');
    expect(await turns(name)).toEqual([3, 2, 1]);
    expect(turnViewSchema.parse(await (await ask(name, 'turns/2')).json())).toMatchObject({
      turn: 2,
      bytes: 8,
      entries: 5,
      skipped: { count: 0, first: [] },
    });
    expect(await names(name, 'turns/1/files')).toEqual(['file hard', 'link link', 'folder src']);
    expect(await names(name, 'turns/3/files?dir=src')).toEqual(['file note']);
    expect(await text(name, 'turns/2/files/link')).toBe('one\ntwo\n');
    const part = await ask(name, 'turns/2/files/hard', { headers: { range: 'bytes=4-6' } });
    expect([part.status, await part.text()]).toEqual([206, 'two']);
    const missing = await ask(name, 'turns/9/files/hard');
    expect([missing.status, Object(await missing.json()).detail]).toEqual([404, expect.stringContaining('3, 2, 1')]);
    expect((await ask(name, 'turns/x')).status).toBe(400);
    expect((await ask(threadNamed('never'), 'turns')).status).toBe(404);
    expect(await tierOf(name)).toBe('cold');
  });

  it('is read by the typed client, whole and in parts', async () => {
    const name = await asleep('client');
    const token = gateway.authorized.authorization.slice('Bearer '.length);
    const api = repeatingApi(createKilnClient({ apiUrl: gateway.base, token }));
    const { thread } = name;
    const textOf = async (content: ReadableStream<Uint8Array>) => (await buffer(content)).toString();
    expect(await textOf(await api.getSessionFile({ thread, path: 'src/note' }))).toBe('one\ntwo\n');
    expect(await textOf(await api.getSessionFile({ thread, path: 'src/note', turn: 1 }))).toBe('one\n');
    const range = { from: 2, to: 5 };
    expect(await textOf(await api.getSessionFile({ thread, path: 'src/note' }, { range }))).toBe('e\nt');
    for (const none of [{ from: 100 }, { from: 3, to: 3 }]) {
      const refused = api.getSessionFile({ thread, path: 'src/note' }, { range: none });
      await expect(refused).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    }
    expect((await api.listTurnFiles({ params: { thread, turn: 1 } })).items.map((entry) => entry.name)).toContain(
      'link',
    );
    expect((await buffer(await api.getTurnTar({ thread, turn: 2 }))).length % 512).toBe(0);
    await expect(api.getTurnTar({ thread, turn: 8 })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const beside = { thread, path: 'beside.txt' };
    expect(await api.putSessionFile(beside, new Blob(['beside']))).not.toHaveProperty('saved');
    expect(await api.putSessionFile(beside, new Blob(['again']), { wait: 'saved' })).toMatchObject({ saved: true });
    await api.sleepSession({ params: { thread }, query: {}, body: {} });
    expect(await textOf(await api.getSessionFile(beside))).toBe('again');
  });

  it('comes as a tar that tar unpacks', async () => {
    const name = await asleep('tar');
    const folder = await mkdtemp(join(tmpdir(), 'kiln-tar-'));
    try {
      const reply = await ask(name, 'turns/2.tar');
      expect([reply.status, reply.headers.get('content-type')]).toEqual([200, 'application/x-tar']);
      await writeFile(join(folder, 'it.tar'), Buffer.from(await reply.arrayBuffer()));
      await promisify(execFile)('tar', ['-xf', join(folder, 'it.tar'), '-C', folder]);
      expect(await readFile(join(folder, 'link'), 'utf8')).toBe('one\ntwo\n');
      expect(await readFile(join(folder, 'hard'), 'utf8')).toBe('one\ntwo\n');
      expect((await ask(name, 'turns/7.tar')).status).toBe(404);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

it('leaves nothing, and histories that replay', async () => {
  await closeAll(kiln.sessions);
  while ((await kiln.left()).length > 0) await delay(100);
  await kiln.judge();
});
