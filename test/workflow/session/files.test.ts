/** Files in the workspaces of sessions, over the REST API, with guests of the fake driver. */
import { randomBytes } from 'node:crypto';
import { request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fileListSchema } from '../../../contracts/api/session-files.ts';
import { KilnError } from '../../../domain/failures.ts';
import type { ThreadName } from '../../../domain/names.ts';
import { type SessionGateway, startSessionGateway } from '../../support/gateway/session-gateway.ts';
import { callingActivity } from '../../support/workers/calling-activity.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';
import { PortGates } from '../../support/workers/port-gates.ts';
import { closeAll, ended, ran, shell, threadNamed, untilRun, untilTier } from '../../support/workers/session-steps.ts';

const MIB = 1024 * 1024;

const gates = new PortGates(callingActivity);
let kiln: Harness;
let gateway: SessionGateway;
let base: string;
let authorized: SessionGateway['authorized'];
beforeAll(async () => {
  kiln = await startHarness({ hostPorts: (ports) => gates.over(ports) });
  gateway = await startSessionGateway(kiln);
  ({ base, authorized } = gateway);
});
afterAll(async () => {
  await gateway.close();
  await kiln.close();
});

const urlOf = ({ thread }: ThreadName, path: string) => `${base}/api/sessions/${thread}/files${path}`;
const get = (name: ThreadName, path: string, method = 'GET') =>
  fetch(urlOf(name, `/${path}`), { method, headers: authorized });
const put = (name: ThreadName, path: string, body: string | Buffer, query = '') =>
  fetch(`${urlOf(name, `/${path}`)}${query}`, {
    method: 'PUT',
    headers: { ...authorized, 'content-type': 'application/octet-stream' },
    body: typeof body === 'string' ? body : Uint8Array.from(body),
  });
const remove = (name: ThreadName, path: string) => get(name, path, 'DELETE');
const codeOf = async (reply: Response) => {
  const { code }: { code?: string } = Object(await reply.json());
  return [reply.status, code];
};
async function list(name: ThreadName, dir?: string): Promise<string[]> {
  const reply = await fetch(urlOf(name, dir === undefined ? '' : `?dir=${dir}`), { headers: authorized });
  expect(reply.status).toBe(200);
  return fileListSchema.parse(await reply.json()).items.map(({ kind, name: entry }) => `${kind} ${entry}`);
}

describe('a file of a session', () => {
  it('is put before any run, and is there for the first one', async () => {
    const name = threadNamed('first');
    const reply = await put(name, 'a/b/note.txt', 'hello');
    expect([reply.status, await reply.json()]).toEqual([201, { path: 'a/b/note.txt', bytes: 5 }]);
    const run = await ran(kiln.sessions, name, 'one', shell('grep -x hello a/b/note.txt && echo more >> a/b/note.txt'));
    expect(run.outcome).toMatchObject({ code: 0 });
    await untilTier(kiln.sessions, name, 'warm');
    const back = await get(name, 'a/b/note.txt');
    expect([back.status, await back.text()]).toEqual([200, 'hellomore\n']);
    expect(back.headers.get('content-length')).toBe('10');
    const head = await get(name, 'a/b/note.txt', 'HEAD');
    expect([head.status, head.headers.get('content-length'), head.headers.get('x-kiln-kind')]).toEqual([
      200,
      '10',
      'file',
    ]);
    await untilTier(kiln.sessions, name, 'warm');
  });

  it('comes back as it was, also a large one, an empty one, and one with a strange name', async () => {
    const name = threadNamed('bytes');
    const large = randomBytes(20 * MIB);
    expect((await put(name, 'large.bin', large)).status).toBe(201);
    expect(Buffer.from(await (await get(name, 'large.bin')).arrayBuffer()).equals(large)).toBe(true);
    const strange = encodeURIComponent("-rf $(id) 'ä🦊' %2e");
    for (const path of ['empty', strange, `folder/${strange}`]) {
      expect((await put(name, path, '')).status).toBe(201);
      expect(await (await get(name, path)).text()).toBe('');
    }
    expect((await put(name, 'empty', 'not any more')).status).toBe(200);
    expect(await (await get(name, 'empty')).text()).toBe('not any more');
    expect(await list(name)).toEqual([
      `file ${decodeURIComponent(strange)}`,
      'file empty',
      'folder folder',
      'file large.bin',
    ]);
    expect(await list(name, 'folder')).toEqual([`file ${decodeURIComponent(strange)}`]);
  });

  it('is used while a run runs, in the same VM, and two at once', async () => {
    const name = threadNamed('beside');
    await kiln.sessions.send(name, { id: 'waits', command: shell('until [ -e go ]; do sleep 0.05; done; cat go') });
    await untilRun(kiln.sessions, name, 'waits', 'running');
    const both = await Promise.all([put(name, 'one', 'x'.repeat(MIB)), put(name, 'two', 'y'.repeat(MIB))]);
    expect(both.map(({ status }) => status)).toEqual([201, 201]);
    expect(await (await get(name, 'two')).text()).toBe('y'.repeat(MIB));
    expect((await put(name, 'go', 'went')).status).toBe(201);
    expect(await ended(kiln.sessions, name, 'waits')).toMatchObject({ outcome: { code: 0, outputBytes: 4 } });
  });

  it('is removed; a folder only where it is empty', async () => {
    const name = threadNamed('removed');
    await put(name, 'd/f', 'x');
    expect(await codeOf(await remove(name, 'd'))).toEqual([409, 'CONFLICT']);
    expect(await codeOf(await put(name, 'd', 'x'))).toEqual([409, 'CONFLICT']);
    expect((await remove(name, 'd/f')).status).toBe(200);
    expect(await codeOf(await remove(name, 'd/f'))).toEqual([404, 'NOT_FOUND']);
    expect((await remove(name, 'd')).status).toBe(200);
    expect(await list(name)).toEqual([]);
    expect(await codeOf(await get(name, 'd/f'))).toEqual([404, 'NOT_FOUND']);
    expect((await get(name, 'd', 'HEAD')).status).toBe(404);
  });

  it('keeps the right to be run, and replaces a link instead of what it leads to', async () => {
    const name = threadNamed('replaced');
    await ran(
      kiln.sessions,
      name,
      'one',
      shell('echo old > f; chmod 755 f; ln -s f link; echo kept > g; ln -s g to-g'),
    );
    expect((await put(name, 'f', 'new')).status).toBe(200);
    expect((await put(name, 'to-g', 'mine')).status).toBe(200);
    expect(await (await get(name, 'link')).text()).toBe('new');
    const run = await ran(kiln.sessions, name, 'two', shell('[ -x f ] && grep -x kept g && [ ! -L to-g ]'));
    expect(run.outcome).toMatchObject({ code: 0 });
  });
});

describe('a path that leads out', () => {
  it.each(['a/..', '../x', 'a/../../x', '/etc/passwd', 'a//b', './a', 'a/', 'a\0b', 'a\nb', 'x'.repeat(256)])(
    '%j is refused',
    async (path) => {
      const name = threadNamed('hostile');
      const encoded = encodeURIComponent(path);
      for (const reply of [await get(name, encoded), await put(name, encoded, 'x'), await remove(name, encoded)]) {
        expect(await codeOf(reply)).toEqual([400, 'SPEC_INVALID']);
      }
      expect((await fetch(urlOf(name, `?dir=${encoded}`), { headers: authorized })).status).toBe(400);
    },
  );

  it('through a link is refused, for reading, writing, removing and listing', async () => {
    const name = threadNamed('links');
    await ran(
      kiln.sessions,
      name,
      'one',
      shell(
        'mkdir in && echo x > in/f && ln -s in inside && ln -s / out && ln -s ../.. up && ln -s /etc/hostname file && ln -s nowhere gone',
      ),
    );
    for (const path of ['out/etc/hostname', 'up/etc/hostname', 'file']) {
      expect(await codeOf(await get(name, path))).toEqual([400, 'SPEC_INVALID']);
      expect((await get(name, path, 'HEAD')).status).toBe(400);
    }
    for (const path of ['out/tmp/kiln-no', 'up/tmp/kiln-no', 'out/kiln-no/deep']) {
      expect(await codeOf(await put(name, path, 'x'))).toEqual([400, 'SPEC_INVALID']);
      expect((await remove(name, path)).status).toBeGreaterThanOrEqual(400);
    }
    expect(await codeOf(await remove(name, 'out/etc/hostname'))).toEqual([400, 'SPEC_INVALID']);
    expect((await fetch(urlOf(name, '?dir=out'), { headers: authorized })).status).toBe(400);
    expect(await codeOf(await get(name, 'gone'))).toEqual([404, 'NOT_FOUND']);
    expect(await codeOf(await get(name, 'inside'))).toEqual([400, 'SPEC_INVALID']);
    expect(await (await get(name, 'inside/f')).text()).toBe('x\n');
    // The link itself is the session's own.
    expect((await remove(name, 'file')).status).toBe(200);
    expect(await list(name)).toEqual(['link gone', 'folder in', 'link inside', 'link out', 'link up']);
  });
});

describe('a transfer that does not go well', () => {
  it('leaves nothing under the name where it breaks off', async () => {
    const name = threadNamed('broken');
    expect((await put(name, 'f', 'whole')).status).toBe(201);
    const cut = await startPut(name, 'f', 10 * MIB);
    cut.write(Buffer.alloc(2 * MIB));
    await untilBeside(name);
    cut.destroy();
    while ((await listed(name)).length > 1) await delay(20);
    expect(await (await get(name, 'f')).text()).toBe('whole');
  });

  it('is refused above 64 MiB, and without a size', async () => {
    const name = threadNamed('bounds');
    const large = await startPut(name, 'f', 65 * MIB);
    expect(await statusOf(large)).toBe(413);
    const chunked = await startPut(name, 'f', undefined);
    chunked.end('x');
    expect(await statusOf(chunked)).toBe(400);
  });

  it('ends with the session that is closed meanwhile', async () => {
    const name = threadNamed('closed');
    await put(name, 'f', 'x');
    const cut = await startPut(name, 'g', 10 * MIB);
    const status = statusOf(cut);
    cut.write(Buffer.alloc(MIB));
    await untilBeside(name);
    await kiln.sessions.close(name, { waitMs: 20_000 });
    cut.write(Buffer.alloc(MIB));
    expect(await status).toBe(410);
    expect(await (await get(name, 'f')).text()).toBe('x');
    expect(await codeOf(await put(name, 'f', 'x'))).toEqual([410, 'SESSION_CLOSED']);
  });

  it('finds the VM of a host whose worker was restarted after the hold', async () => {
    const name = threadNamed('restarted');
    await put(name, 'f', 'kept');
    await untilTier(kiln.sessions, name, 'warm');
    const text = await kiln.sessions.hold(name, { kind: 'readFiles', waitMs: 20_000 }, async () => {
      await kiln.restartHost();
      return (await get(name, 'f')).text();
    });
    expect(text).toBe('kept');
  });

  it('is in the store once its writer was told so', async () => {
    const name = threadNamed('saved');
    const answer = await put(name, 'f', 'x', '?wait=saved');
    expect([answer.status, await answer.json()]).toEqual([201, { path: 'f', bytes: 1, saved: true }]);
    expect((await kiln.sessions.get(name)).state?.saves).toMatchObject({ stored: { turn: 0 } });
  });

  it('is told that a lost workspace has no such file', async () => {
    const name = threadNamed('lost');
    // Nothing of it is saved.
    gates.failOnce('sessions.saves.snapshot', 'before', () => new KilnError('UNSUPPORTED', 'Too old.'), {
      workloadId: name.thread,
    });
    await put(name, 'f', 'x');
    const { state } = await untilTier(kiln.sessions, name, 'warm');
    const { pid } = { pid: 0, ...(await kiln.host.vms.status(state?.place?.vmId ?? '')) };
    process.kill(pid, 'SIGKILL');
    await untilTier(kiln.sessions, name, 'cold');
    expect(await codeOf(await get(name, 'f'))).toEqual([404, 'NOT_FOUND']);
  });

  it('is refused by the host for a VM that is paused, or of another', async () => {
    const name = threadNamed('paused');
    await put(name, 'f', 'x');
    const { state } = await untilTier(kiln.sessions, name, 'warm');
    const vmId = state?.place?.vmId ?? '';
    const { files } = kiln.host.sessions;
    const owner = { workflowId: `session/default/${name.thread}/1`, epoch: 1 };
    await expect(files.look({ vmId, ...owner }, 'f')).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(files.look({ vmId, ...owner, epoch: 2 }, 'f')).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(files.look({ vmId: 'none-1-1', ...owner }, 'f')).rejects.toMatchObject({ code: 'VMM_EXITED' });
  });

  it('ends where its VM is paused in the middle', async () => {
    const name = threadNamed('pause-in-the-middle');
    await put(name, 'f', 'x');
    await kiln.sessions.hold(name, { kind: 'writeFiles', waitMs: 20_000 }, async ({ vmId, epoch, workflowId }) => {
      const cut = await startPut(name, 'g', 10 * MIB);
      const status = statusOf(cut);
      cut.write(Buffer.alloc(MIB));
      while ((await kiln.host.sessions.files.list({ vmId, epoch, workflowId }, '')).entries.length < 2) await delay(20);
      await kiln.host.sessions.vms.pause(vmId);
      expect(await status).toBe(409);
    });
    await kiln.host.sessions.vms.resume((await kiln.sessions.get(name)).state?.place?.vmId ?? '', {
      deadlineMs: 10_000,
      waitMs: 0,
      signal: AbortSignal.timeout(10_000),
    });
  });
});

it('leaves nothing, and histories that replay', async () => {
  await closeAll(kiln.sessions);
  while ((await kiln.left()).length > 0) await delay(100);
  await kiln.judge();
});

/** Begins an upload of so many bytes by hand; undefined: without telling how many. */
async function startPut(name: ThreadName, path: string, bytes: number | undefined) {
  const length = bytes === undefined ? {} : { 'content-length': String(bytes) };
  const headers = { ...authorized, 'content-type': 'application/octet-stream', ...length };
  const call = request(urlOf(name, `/${path}`), { method: 'PUT', headers, agent: false });
  call.on('error', () => undefined);
  call.flushHeaders();
  return call;
}

async function statusOf(call: ReturnType<typeof request>): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    call.once('response', (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    call.once('error', reject);
  });
}

const listed = (name: ThreadName) => list(name);

/** Waits until something lies beside the names of the workspace. */
async function untilBeside(name: ThreadName): Promise<void> {
  while (!(await listed(name)).some((entry) => entry.startsWith('file .kiln-put-'))) await delay(20);
}
