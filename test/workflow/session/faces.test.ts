/** Sessions as programs and people use them: the typed client and the command line over a gateway that listens. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createKilnClient, type KilnClient } from '../../../client/http/kiln-client.ts';
import type { Run } from '../../../client/http/sessions/run.ts';
import type { RunChunk } from '../../../client/http/sessions/run-chunks.ts';
import { createSessionClient } from '../../../client/temporal/sessions/session-client.ts';
import { createTaskQueueProbe } from '../../../client/temporal/task-queue-pollers.ts';
import { createGateway, type Gateway } from '../../../gateway/gateway.ts';
import { hostLogsOverHttp } from '../../../gateway/logs/host-logs.ts';
import { filesOverHttp } from '../../../gateway/sessions/host-files.ts';
import { runOutputOverHttp } from '../../../gateway/sessions/host-run-output.ts';
import { kiln as cli } from '../../support/gateway/cli-fixtures.ts';
import { repeatingApi } from '../../support/gateway/repeating-api.ts';
import { runIn } from '../../support/guest/guest-under-test.ts';
import { sessionBooksOf } from '../../support/workers/harness-workers.ts';
import { FAST_SESSIONS, type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { ran, shell, threadNamed } from '../../support/workers/session-steps.ts';
import { silentLogger } from '../../support/workers/silent-logger.ts';

const TOKEN = 'a-token-of-the-session-tests';
const HOST_TOKEN = 'a-token-for-tests';

let kiln: Harness;
let gateway: Gateway;
let apiUrl: string;
let api: KilnClient;

beforeAll(async () => {
  kiln = await startHarness();
  gateway = createGateway({
    workloads: kiln.workloads,
    store: kiln.store,
    sessions: {
      client: kiln.sessions,
      followOutput: runOutputOverHttp({ token: HOST_TOKEN, timeoutMs: 3_000 }),
      files: filesOverHttp({ token: HOST_TOKEN, timeoutMs: 3_000 }),
    },
    isPolled: createTaskQueueProbe({ client: kiln.temporal }),
    hostLogs: hostLogsOverHttp({ token: HOST_TOKEN, timeoutMs: 3_000, maxBytes: 16_000_000 }),
    token: TOKEN,
    log: silentLogger,
    version: '0',
    limits: { runLookMs: 20, runMaxLookMs: 200 },
  });
  apiUrl = await gateway.listen({ host: '127.0.0.1', port: 0 });
  api = repeatingApi(createKilnClient({ apiUrl, token: TOKEN }));
});
afterAll(async () => {
  await gateway.close();
  await kiln.close();
});

const untilOpen = (gate: string) => `until [ -e /tmp/${gate} ]; do sleep 0.02; done`;

/** Lets the present run of a thread go on. */
async function open(thread: string, gate: string): Promise<void> {
  const view = () => api.getSession({ params: { thread } });
  await expect.poll(view).toHaveProperty('running');
  const agent = await kiln.host.vms.agent((await view()).vmId ?? '');
  expect(await runIn(agent, ['touch', `/tmp/${gate}`])).toMatchObject({ code: 0 });
}

async function all(run: Run, onChunk: (chunk: RunChunk) => unknown = () => undefined): Promise<RunChunk[]> {
  const chunks: RunChunk[] = [];
  for await (const chunk of run) {
    chunks.push(chunk);
    await onChunk(chunk);
  }
  return chunks;
}

function textOf(chunks: readonly RunChunk[], of: 'stdout' | 'stderr'): string {
  return chunks.map(({ stream, text }) => (stream === of ? text : '')).join('');
}

/** @returns a client whose answers pass through `change` */
function clientWith(change: (reply: Response, request: { url: URL; init: RequestInit }) => Promise<Response>) {
  const through: typeof fetch = async (input, init = {}) =>
    change(await fetch(input, init), { url: new URL(input instanceof Request ? input.url : input), init });
  return createKilnClient({ apiUrl, token: TOKEN, fetch: through });
}

/** @returns an answer that breaks off inside of the second event of output */
function cutInSecondEvent(reply: Response): Response {
  let text = '';
  const cut = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      const known = text.length;
      text += Buffer.from(chunk).toString('latin1');
      const second = [...text.matchAll(/event: output\n/g)][1]?.index;
      if (second === undefined) return controller.enqueue(chunk);
      controller.enqueue(chunk.subarray(0, Math.max(0, second + 30 - known)));
      controller.error(new TypeError('terminated'));
    },
  });
  return new Response(reply.body?.pipeThrough(cut) ?? null, { status: reply.status, headers: reply.headers });
}

describe('the typed client', () => {
  it('gives output as whole characters where it comes in pieces cut inside of them', async () => {
    const script = `printf '\\303'; ${untilOpen('a')}; printf '\\251 \\342\\202' ; ${untilOpen('b')}; printf x >&2; printf '\\254'`;
    const run = api.session('pieces').command(shell(script));
    const chunks = await all(run, async ({ bytes }) => {
      if (bytes?.at(-1) === 0xc3) await open('pieces', 'a');
      if (bytes?.at(-1) === 0x82) await open('pieces', 'b');
    });
    expect(chunks[0]).toMatchObject({ stream: 'stdout', text: '' });
    expect([textOf(chunks, 'stdout'), textOf(chunks, 'stderr')]).toEqual(['é €', 'x']);
    expect(await run.result()).toMatchObject({ state: 'finished', turn: 1, exit: { code: 0, outputBytes: 7 } });
  });

  it('reads a run from before its beginning on', async () => {
    let isConnected: () => void = () => undefined;
    const connected = new Promise<void>((resolve) => {
      isConnected = resolve;
    });
    const watching = clientWith(async (reply, { url }) => {
      if (url.pathname.endsWith('/runs/second/output')) isConnected();
      return reply;
    });
    const session = watching.session('early');
    const first = session.command(shell(untilOpen('first')), { id: 'first' });
    const second = session.command(shell('echo now'), { id: 'second' });
    const read = all(second);
    await connected;
    expect(await api.getRun({ params: { thread: 'early', id: 'second' } })).toMatchObject({ state: 'waiting' });
    await open('early', 'first');
    expect(textOf(await read, 'stdout')).toBe('now\n');
    expect(await first.result()).toMatchObject({ turn: 1 });
    expect(await second.result()).toMatchObject({ turn: 2 });
  });

  it('loses and repeats nothing of a stream that is cut again and again', async () => {
    const positions: number[] = [];
    const cutting = clientWith(async (reply, { url, init }) => {
      if (!url.pathname.endsWith('/output')) return reply;
      positions.push(Number(new Headers(init.headers).get('last-event-id')));
      return cutInSecondEvent(reply);
    });
    const rounds = ['1', '2', '3', '4'];
    const script = rounds.map((n) => `echo "é ${n}"; echo "w ${n}" >&2; ${untilOpen(`cut-${n}`)}`).join('\n');
    const run = cutting.session('cut', { stream: { retryMs: 1 } }).command(shell(script));
    const chunks = await all(run, async ({ text = '' }) => {
      const round = /^w (\d)/.exec(text)?.[1];
      if (round !== undefined) await open('cut', `cut-${round}`);
    });
    expect(textOf(chunks, 'stdout')).toBe('é 1\né 2\né 3\né 4\n');
    expect(textOf(chunks, 'stderr')).toBe('w 1\nw 2\nw 3\nw 4\n');
    expect(positions.length).toBeGreaterThan(4);
    expect(positions).toEqual([...new Set(positions)].toSorted((a, b) => a - b));
  });

  it('runs a command once whose answers are lost', async () => {
    let lose = 3;
    const lossy = clientWith(async (reply, { url, init }) => {
      if (init.method !== 'POST' || !url.pathname.endsWith('/runs') || lose-- <= 0) return reply;
      await reply.body?.cancel();
      throw new TypeError('terminated');
    });
    const session = lossy.session('lossy', { repeat: { pauseMs: 1 } });
    await session.command(shell('echo x >> count')).result();
    expect(lose).toBeLessThan(0);
    expect(textOf(await all(session.command(['wc', '-l', 'count'])), 'stdout')).toBe('1 count\n');
  });

  it('begins a session with its settings, and takes one that has others', async () => {
    const first = api.session('settled', { resources: { memMib: 1024 }, project: 'p-1' });
    await first.command(['true']).result();
    expect(await first.get()).toMatchObject({ project: 'p-1', turns: 1, settings: { resources: { memMib: 1024 } } });
    const other = api.session('settled', { resources: { memMib: 2048 }, project: 'p-1' });
    expect(await other.command(shell('exit 3')).result()).toMatchObject({ turn: 2, exit: { code: 3 } });
    expect(await other.get()).toMatchObject({ settings: { resources: { memMib: 1024 } } });
    await expect(api.session('settled').get()).rejects.toMatchObject({ code: 'NOT_FOUND' });
    expect(await first.close()).toMatchObject({ tier: 'closed', end: { cause: 'CLOSE_ASKED' } });
    await expect(other.command(['true']).result()).rejects.toMatchObject({ code: 'SESSION_CLOSED' });
    await other.command(['true'], { ifEnded: 'restart' }).result();
    expect(await other.get()).toMatchObject({ settings: { resources: { memMib: 2048 } } });
  });

  it('cancels a run, and tells a run that failed by its code', async () => {
    const session = api.session('cancels');
    const run = session.command(shell('echo begun; sleep 1000'), { id: 'long' });
    await all(run, () => run.cancel());
    await expect(run.result()).rejects.toMatchObject({ code: 'CANCELLED', details: { run: { state: 'cancelled' } } });
    await expect(api.session('cancels').existing('long').result()).rejects.toMatchObject({ code: 'CANCELLED' });
    const late = session.command(['sleep', '1000'], { timeoutMs: 50 });
    await expect(late.result()).rejects.toMatchObject({ code: 'RUN_TIMEOUT' });
    await expect(api.session('cancels').existing('never').result()).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

/** Asks the API itself. */
async function ask(method: string, path: string, body: unknown): Promise<{ status: number; problem: unknown }> {
  const reply = await fetch(`${apiUrl}/api/sessions${path}`, {
    method,
    headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: reply.status, problem: await reply.json() };
}

describe('settings', () => {
  const HOUR = 3_600_000;
  const defaults = {
    image: { name: 'node' },
    resources: { vcpus: 1, memMib: 512, diskMib: 2048 },
    egress: [],
    tiers: { idleMs: HOUR / 4, ttlMs: 30 * 24 * HOUR },
  };

  it('are the defaults where nothing was asked for, and are shown', async () => {
    await api.createSession({ body: { thread: 'defaults' } });
    const { settings } = await api.getSession({ params: { thread: 'defaults' } });
    expect(settings).toMatchObject(defaults);
    expect(settings.egress).toEqual([]);
  });

  it('change one by one: the others stay', async () => {
    const tiers = { idleMs: 90_000 };
    await api.patchSession({ params: { thread: 'defaults' }, body: { tiers, egress: ['example.org'] } });
    const { settings } = await api.getSession({ params: { thread: 'defaults' } });
    expect(settings).toMatchObject({
      ...defaults,
      egress: ['example.org:443'],
      tiers: { ...defaults.tiers, idleMs: 90_000 },
    });
  });

  it.each([
    [{ image: 'python' }, 'image'],
    [{ thread: 'other' }, 'thread'],
    [{ egress: [], harness: 'goose' }, 'harness'],
    [{ tiers: { idle: 1000 } }, 'idle'],
    [{ tiers: { idleMs: 999 } }, 'tiers.idleMs'],
    [{ tiers: { idleMs: 365 * 24 * HOUR + 1 } }, 'tiers.idleMs'],
    [{ resources: { cpus: 2 } }, 'cpus'],
    [{}, 'egress, tiers or resources'],
  ])('%j is refused, and the field is named', async (body, named) => {
    expect(await ask('PATCH', '/defaults', body)).toMatchObject({
      status: 400,
      problem: { code: 'SPEC_INVALID', detail: expect.stringContaining(named) },
    });
  });
});

describe('a session that is saved', () => {
  it('says so of its runs and its files where that is waited for, and sleeps', async () => {
    const sent = await ask('POST', '/saved/runs?wait=saved', { id: 'one', command: shell('echo kept > note') });
    expect(sent).toMatchObject({ status: 200, problem: { state: 'finished', turn: 1, saved: true } });
    expect(await ask('GET', '/saved/runs/one', undefined)).toMatchObject({ problem: { saved: true } });
    expect(await api.session('saved').get()).toMatchObject({ saved: { turn: 1, isWhole: true } });
    expect(await ask('POST', '/saved/sleep', {})).toMatchObject({ status: 200, problem: { tier: 'cold' } });
    const asleep = await api.session('saved').sleep();
    expect(asleep).toMatchObject({
      tier: 'cold',
      events: expect.arrayContaining([expect.objectContaining({ cause: 'SLEEP_ASKED' })]),
    });
    expect(await api.session('saved').command(shell('cat note')).result()).toMatchObject({ exit: { code: 0 } });
  });
});

describe('what is not there yet', () => {
  it.each([
    ['/unborn/runs', { id: 'a', message: 'make it bounce' }, 'send the `command`'],
    ['/unborn/fork', { thread: 'copy', turn: 3 }, 'begin another one'],
  ])('%s is UNSUPPORTED, and says what to use instead', async (path, body, instead) => {
    expect(await ask('POST', path, body)).toMatchObject({
      status: 501,
      problem: { code: 'UNSUPPORTED', detail: expect.stringContaining(instead) },
    });
  });

  it('has begun nothing', async () => {
    await expect(api.session('unborn').get()).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('is told by its code to programs and people', async () => {
    const session = api.session('unborn');
    for (const call of [() => session.run('make it bounce').result(), () => session.fork('copy')]) {
      await expect(call()).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    }
    const told = await cli(['session', 'run', 'unborn', '--message', 'make it bounce'], { api });
    expect(told).toMatchObject({ stdout: '', stderr: expect.stringContaining('UNSUPPORTED'), exitCode: 1 });
  });
});

describe('the command line', () => {
  const run = (thread: string, ...words: string[]) => cli(['session', 'run', thread, ...words], { api });

  it('passes output and exit code on, and signals as shells do', async () => {
    const script = `printf 'caf\\303\\251'; echo oops >&2; exit 7`;
    expect(await run('cli', '--', ...shell(script))).toEqual({ stdout: 'café', stderr: 'oops\n', exitCode: 7 });
    expect((await run('cli', '--', ...shell('kill -9 $$'))).exitCode).toBe(137);
    expect(await run('cli', '--env', 'A=1', '--', ...shell('echo $A'))).toMatchObject({ stdout: '1\n', exitCode: 0 });
  });

  it('cancels its run at Ctrl-C; the session goes on', async () => {
    const interrupt = new AbortController();
    const onWrite = () => interrupt.abort();
    const args = ['session', 'run', 'cli', '--id', 'stopped', '--', ...shell('echo begun; sleep 1000')];
    const stopped = await cli(args, { api, interrupt: interrupt.signal, onWrite });
    expect([stopped.stdout, stopped.exitCode]).toEqual(['begun\n', 130]);
    expect(await api.getRun({ params: { thread: 'cli', id: 'stopped' } })).toMatchObject({ state: 'cancelled' });
    expect((await run('cli', '--', 'true')).exitCode).toBe(0);
  });

  it('shows a run that was detached, and the session with its causes', async () => {
    const detached = await run('cli', '--detach', '--id', 'apart', '--', ...shell(`echo one; ${untilOpen('apart')}`));
    expect(detached).toMatchObject({ stdout: expect.stringMatching(/^run +apart\n/), exitCode: 0 });
    const shown = cli(['session', 'output', 'cli', 'apart'], { api, onWrite: () => void open('cli', 'apart') });
    expect(await shown).toEqual({ stdout: 'one\n', stderr: '', exitCode: 0 });
    const { stdout } = await cli(['session', 'inspect', 'cli'], { api });
    expect(stdout).toMatch(/^turns +6$/m);
    expect(stdout).toMatch(/run apart +finished +RUN_EXITED +its process exited: code 0/);
    const listed = async () => (await cli(['session', 'list'], { api })).stdout;
    await expect.poll(listed).toMatch(/^cli +default +warm /m);
  });

  it('closes it: a run that comes then is refused, and says how to go on', async () => {
    expect(await cli(['session', 'close', 'cli'], { api })).toMatchObject({ exitCode: 0 });
    const refused = await run('cli', '--', 'true');
    expect(refused).toMatchObject({ stdout: '', stderr: expect.stringContaining('SESSION_CLOSED'), exitCode: 1 });
    expect((await run('cli', '--if-ended', 'restart', '--', 'true')).exitCode).toBe(0);
    const known = await run('cli', '--id', 'stopped', '--', ...shell('echo begun; sleep 1000'));
    expect(known).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('CANCELLED') });
  });

  it('deletes it, and says so to whoever asks', async () => {
    const gone = { stdout: 'Thread cli is deleted.\n', exitCode: 0 };
    expect(await cli(['session', 'delete', 'cli'], { api })).toMatchObject(gone);
    expect(await api.session('cli').get()).toMatchObject({ tier: 'closed', end: { as: 'deleted' } });
    expect(await run('cli', '--id', 'stopped', '--', 'true')).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('was deleted'),
    });
    expect(await api.session('cli').delete()).toMatchObject({ end: { emptiedAt: expect.any(String) } });
    expect((await cli(['session', 'delete', 'never-was'], { api })).exitCode).toBe(1);
  });
});

it('a process that knows an ended session of a thread finds the runs of the one that came after it', async () => {
  const name = threadNamed('later');
  const other = createSessionClient({
    client: kiln.temporal,
    books: sessionBooksOf(kiln.store, {}),
    policies: FAST_SESSIONS,
  });
  await ran(other, name, 'one', ['true']);
  await kiln.sessions.close(name, { waitMs: 20_000 });
  await kiln.sessions.send(name, { id: 'two', command: ['sleep', '1000'], ifEnded: 'restart' });
  expect(await other.run(name, 'two')).toMatchObject({ session: { incarnation: 2 } });
  await expect(other.run(name, 'never')).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

it('leaves nothing, and histories that replay', async () => {
  for (const { thread, project, tier } of (await api.listSessions()).items) {
    if (tier !== 'closed') await api.session(thread, { project }).close();
  }
  expect(await kiln.left()).toEqual([]);
  await kiln.judge();
});
