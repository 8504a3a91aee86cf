/** A session in a real guest: its runs, its rest, and its end. */
import { execFile } from 'node:child_process';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createSaveHeads } from '../../store/sessions/saves/heads.ts';
import { tarOfSave } from '../../store/sessions/saves/saved-tar.ts';
import { createSavedWorkspaces } from '../../store/sessions/saves/saved-workspace.ts';
import { createInstanceStore } from '../../vmm/instance-record.ts';
import { type CountingServer, countingServer } from '../support/guest/counting-server.ts';
import type { HarnessOptions } from '../support/workers/harness-workers.ts';
import { type Harness, startHarness } from '../support/workers/kiln-harness.ts';
import { ended, ran, shell, threadNamed, untilTier } from '../support/workers/session-steps.ts';

/** Ends with 7 where there is no answer. */
const get = (url: string) => ['node', '-e', `fetch('${url}').then((reply) => reply.text(), () => process.exit(7))`];

let server: CountingServer;
let kiln: Harness;
let options: HarnessOptions & { privateNames: readonly string[] };
beforeAll(async () => {
  server = await countingServer();
  const privateNames = [`counter.corp:${server.port}`];
  options = { guests: 'qemu', privateNames, resolveName: async () => ['127.0.0.1'] };
  kiln = await startHarness(options);
}, 60_000);
afterAll(async () => {
  await kiln.close();
  server.close();
});

async function killVm(vmId: string): Promise<void> {
  const { pid } = { pid: undefined, ...(await kiln.host.vms.status(vmId)) };
  if (pid === undefined) throw new Error(`VM ${vmId} does not run`);
  process.kill(pid, 'SIGKILL');
}

/** @returns what a script prints in a folder with a tar of a save. */
async function inUnpacked(tar: Readable, script: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'kiln-tar-'));
  try {
    await pipeline(tar, createWriteStream(join(folder, 'it.tar')));
    await mkdir(join(folder, 'workspace'));
    await runFile('tar', ['-xpf', '../it.tar', '--numeric-owner'], { cwd: join(folder, 'workspace') });
    return (await runFile('sh', ['-c', script], { cwd: join(folder, 'workspace') })).stdout;
  } finally {
    await rm(folder, { recursive: true });
  }
}
const runFile = promisify(execFile);

describe('a session in a real guest', () => {
  const name = threadNamed('real');
  const newestSave = async () => {
    const session = { ...name, incarnation: 1 };
    const head = await createSaveHeads(kiln.store).read(session);
    if (head?.save === undefined) throw new Error('nothing is saved');
    return createSavedWorkspaces(kiln.store, { maxCacheBytes: 1_000_000 }).open(
      session,
      head.save,
      AbortSignal.timeout(60_000),
    );
  };

  it('keeps files, processes of nobody and the time between two runs', async () => {
    const egress = ['counter.corp', 'other.corp'].map((host) => `${host}:${server.port}`);
    await kiln.sessions.create(name, { egress });
    const first = await ran(kiln.sessions, name, 'one', shell('pwd; echo kept > note'));
    expect(first.outcome).toMatchObject({ as: 'finished', code: 0, outputBytes: '/workspace\n'.length });
    const { state } = await untilTier(kiln.sessions, name, 'warm');
    const vmId = state?.place?.vmId ?? '';
    expect((await kiln.host.vms.status(vmId)).state).toBe('paused');
    // The host name is what a guest calls itself in logs and prompts: it leads to the VM.
    const named = await ran(kiln.sessions, name, 'named', shell(`test "$(uname -n)" = ${vmId}`));
    expect(named.outcome).toMatchObject({ code: 0 });
    const second = await ran(kiln.sessions, name, 'two', [
      'node',
      '-e',
      `process.exit(Math.abs(Date.now() - ${Date.now()}) < 60_000 ? 0 : 1)`,
    ]);
    expect(second.vm?.vmId).toBe(vmId);
    expect(second.outcome).toMatchObject({ code: 0 });
    expect((await ran(kiln.sessions, name, 'three', shell('grep kept note'))).outcome).toMatchObject({ code: 0 });
  });

  it('of which another is a clone: that reaches the names of the operator, too', async () => {
    await kiln.host.templates?.settled();
    const clone = threadNamed('clone');
    await kiln.sessions.create(clone, { egress: [`counter.corp:${server.port}`] });
    const { vm, outcome } = await ran(kiln.sessions, clone, 'one', get(`http://counter.corp:${server.port}/clone`));
    expect([outcome, server.count('/clone')]).toEqual([expect.objectContaining({ as: 'finished', code: 0 }), 1]);
    expect(await createInstanceStore(kiln.stateDir).read(vm?.vmId ?? '')).toMatchObject({ start: 'template' });
    await kiln.sessions.close(clone, { waitMs: 30_000 });
  });

  it('is taken over by the next worker of its host, running or paused', async () => {
    await untilTier(kiln.sessions, name, 'warm');
    await kiln.restartHost();
    const { vm, outcome } = await ran(kiln.sessions, name, 'four', shell('grep kept note; sleep 0.1'));
    expect(outcome).toMatchObject({ code: 0 });
    await kiln.sessions.send(name, { id: 'five', command: shell('for n in 1 2 3 4 5 6; do echo $n; sleep 0.5; done') });
    await kiln.restartHost();
    const five = await ran(kiln.sessions, name, 'six', ['true']);
    expect(five).toMatchObject({ turn: 7, vm });
    expect((await kiln.sessions.run(name, 'five')).run.run).toMatchObject({ outcome: { code: 0, outputBytes: 12 } });
  });

  it('has an effect outside of its guest once, however often a run is sent', async () => {
    const command = get(`http://counter.corp:${server.port}/once`);
    for (let time = 0; time < 3; time++) await kiln.sessions.send(name, { id: 'once', command });
    expect((await ended(kiln.sessions, name, 'once')).outcome).toMatchObject({ as: 'finished', code: 0 });
    expect((await kiln.sessions.send(name, { id: 'once', command })).state).toBe('ended');
    expect((await ran(kiln.sessions, name, 'after', ['true'])).outcome).toMatchObject({ code: 0 });
    expect(server.count('/once')).toBe(1);
  });

  it('reaches a private address by no name that the operator has not named, and by none once no name is', async () => {
    const other = get(`http://other.corp:${server.port}/other`);
    expect((await ran(kiln.sessions, name, 'other', other)).outcome).toMatchObject({ as: 'finished', code: 7 });
    await untilTier(kiln.sessions, name, 'warm');
    options.privateNames = [];
    await kiln.restartHost();
    const counter = get(`http://counter.corp:${server.port}/none`);
    expect((await ran(kiln.sessions, name, 'none', counter)).outcome).toMatchObject({ as: 'finished', code: 7 });
    expect([server.count('/other'), server.count('/none')]).toEqual([0, 0]);
  });

  it('has its files again in another VM, as they were, after it slept and after its VM was killed', async () => {
    const tree = `(find . -path ./lost+found -prune -o -printf '%P %y %m %U %G %T@ %s %l\\n' | sort; find . -type f -exec md5sum {} + | sort) | md5sum`;
    const make =
      'mkdir -p a/b; head -c 3000000 /dev/urandom > a/big; ln a/big a/b/hard; ln -s ../big a/b/soft; chmod 600 a/big';
    const made = await ran(kiln.sessions, name, 'make', shell(`${make}; ${tree}`));
    const vms = [made.vm?.vmId];
    const output = await kiln.host.sessions.runs.readOutput({ vmId: vms[0] ?? '', turn: made.turn ?? 0 }, 0, 1000);
    const digest = output.map((piece) => (piece.kind === 'data' ? piece.data.toString() : '')).join('');
    expect(digest).toMatch(/^[0-9a-f]{32} /);
    for (const how of ['slept', 'killed']) {
      await untilTier(kiln.sessions, name, 'warm');
      if (how === 'slept') await kiln.sessions.sleep(name);
      else await killVm(vms.at(-1) ?? '');
      await untilTier(kiln.sessions, name, 'cold');
      const tar = tarOfSave(await newestSave(), AbortSignal.timeout(60_000));
      expect(await inUnpacked(tar, tree), how).toBe(digest);
      const again = await ran(kiln.sessions, name, how, shell(`test "$( ${tree})" = '${digest.trim()}'`));
      expect(again.outcome, how).toMatchObject({ as: 'finished', code: 0 });
      expect(again).not.toHaveProperty('lost');
      expect(vms).not.toContain(again.vm?.vmId);
      vms.push(again.vm?.vmId);
    }
  });

  it('is closed, and leaves nothing', async () => {
    expect((await kiln.sessions.close(name, { waitMs: 30_000 })).settled).toBe(true);
    expect(await kiln.left()).toEqual([]);
    await kiln.judge();
  });
});
