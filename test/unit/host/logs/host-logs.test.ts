import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KilnError } from '../../../../domain/failures.ts';
import { type OwnerId, workloadRef } from '../../../../domain/owner.ts';
import { createHostLogs, type HostLogs, type HostLogsOptions } from '../../../../host/logs/host-logs.ts';
import { ownersIn } from '../../../../host/logs/log-folders.ts';
import { silentLogger } from '../../../support/workers/silent-logger.ts';

let stateDir: string;
let blobs: Map<string, string>;
let storeIsAway: boolean;
let onPut: (key: string) => void;
const opened: HostLogs[] = [];

beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'kl-'));
  blobs = new Map();
  storeIsAway = false;
  onPut = () => undefined;
});
afterEach(async () => {
  for (const logs of opened.splice(0)) await logs.stop();
  await rm(stateDir, { recursive: true, force: true });
});

function open(more: Partial<HostLogsOptions> = {}): HostLogs {
  const logs = createHostLogs({
    stateDir,
    hostId: 'h1',
    store: {
      async putBlob(key, source) {
        if (storeIsAway) throw new KilnError('STORE_UNAVAILABLE', 'away');
        blobs.set(key, 'path' in source ? await readFile(source.path, 'utf8') : source.data.toString());
        onPut(key);
        return { bytes: 0, sha256: '' };
      },
    },
    shipEveryMs: 60_000,
    maxFollowMs: 60_000,
    maxFollows: 10,
    partBytes: 100_000,
    maxUnshippedBytes: 1_000_000,
    keepShippedBytes: 0,
    flushMs: 60_000,
    logger: silentLogger,
    ...more,
  });
  opened.push(logs);
  return logs;
}

const writeTo = async (logs: HostLogs, workloadId: string, epoch: number, line: string) =>
  (await logs.open(workloadRef(workloadId, epoch))).write('running', 'info', line);

describe('workload logs', () => {
  it('ships under the keys that readers know', async () => {
    const logs = open();
    await writeTo(logs, 'w1', 2, 'a');
    await logs.ship(workloadRef('w1', 2));
    await writeTo(logs, 'w1', 2, 'b');
    await logs.ship(workloadRef('w1', 2));
    await logs.ship(workloadRef('w1', 2));
    expect([...blobs.keys()]).toEqual(['logs/w1/2-h1/0000000000.jsonl', 'logs/w1/2-h1/0000000001.jsonl']);
    expect(blobs.get('logs/w1/2-h1/0000000001.jsonl')).toContain('"message":"b"');
  });

  it('a ship takes everything written before it, also beside another one', async () => {
    const logs = open();
    const lines = Array.from({ length: 20 }, (_, index) => `line ${index}`);
    await Promise.all(
      lines.map(async (line) => {
        await writeTo(logs, 'w1', 0, line);
        await logs.ship(workloadRef('w1', 0));
        expect([...blobs.values()].join('')).toContain(`"${line}"`);
      }),
    );
    expect(logs.unshippedBytes()).toBe(0);
  });

  it('ships in the background what an earlier process left', async () => {
    const earlier = open();
    await writeTo(earlier, 'w1', 0, 'left');
    storeIsAway = true;
    await expect(earlier.ship(workloadRef('w1', 0))).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    storeIsAway = false;
    const put = new Promise<string>((resolve) => {
      onPut = resolve;
    });
    open({ shipEveryMs: 1 }).start();
    expect(await put).toBe('logs/w1/0-h1/0000000000.jsonl');
  });

  it('stopping makes safe what was only written', async () => {
    const logs = open();
    await writeTo(logs, 'w1', 0, 'last words');
    await logs.stop();
    expect(await open().read(workloadRef('w1', 0), -1, 10)).toMatchObject([{ n: 0, message: 'last words' }]);
  });

  it('wakes whoever waits for a line once it is safe, and answers everybody at the end', async () => {
    const logs = open();
    const writer = await logs.open(workloadRef('w1', 0));
    const owner = { kind: 'workload', id: 'w1' } as const;
    const leave = logs.attend(owner);
    const request = { owner, limit: 10, waitMs: 60_000, signal: new AbortController().signal };
    const { mark = '' } = await logs.follow({ ...request, after: -1, waitMs: 0 });
    const first = logs.follow({ ...request, after: -1, mark });
    writer.write('running', 'info', 'on its way');
    expect(await logs.read(workloadRef('w1', 0), -1, 10)).toEqual([]);
    await writer.flush();
    expect(await first).toMatchObject({ mark, epoch: 0, entries: [{ n: 0, message: 'on its way' }] });
    const second = logs.follow({ ...request, after: 0, mark });
    expect(logs.heldFollows()).toBe(1);
    await logs.stop();
    expect(await second).toEqual({ epoch: 0, entries: [] });
    leave();
  });

  it('remembers the offset of the service', async () => {
    expect(await open().serviceOffset(workloadRef('w1', 0))).toBe(0);
    await open().saveServiceOffset(workloadRef('w1', 0), 4711);
    expect(await open().serviceOffset(workloadRef('w1', 0))).toBe(4711);
  });

  it('a reader of what is not there makes nothing', async () => {
    const logs = open();
    expect(await logs.read(workloadRef('w1', 0), -1, 10)).toEqual([]);
    expect(await logs.epochs({ kind: 'workload', id: 'w1' })).toEqual([]);
  });

  it('keeps the log of a session under a name that is safe, and finds it again', async () => {
    const thread = { kind: 'session', id: 'default/Thread..42/3', epoch: 2 } as const;
    const logs = open({ keepShippedBytes: 1_000_000 });
    (await logs.open(thread)).write('hot', 'info', 'a line of a run');
    await logs.ship(thread);
    expect([...blobs.keys()]).toEqual(['sessions/default/Thread..42/3/logs/2-h1/0000000000.jsonl']);
    (await logs.open(thread)).write('warm', 'info', 'not shipped yet');
    await logs.stop();
    const put = new Promise<string>((resolve) => {
      onPut = resolve;
    });
    const next = open({ shipEveryMs: 1, keepShippedBytes: 1_000_000 });
    next.start();
    expect(await put).toBe('sessions/default/Thread..42/3/logs/2-h1/0000000001.jsonl');
    expect(await next.epochs(thread)).toEqual([2]);
    expect(await next.read(thread, -1, 10)).toMatchObject([{ stage: 'hot' }, { stage: 'warm' }]);
    await next.stop();
  });

  it('prunes a session by its own use, with the folder that names it', async () => {
    const [busy, gone] = (['busy', 'gone'] as const).map((name) => ({
      kind: 'session' as const,
      id: `default/${name}/1`,
      epoch: 1,
    }));
    if (busy === undefined || gone === undefined) throw new Error('two sessions');
    let awake = 0;
    const logs = open({ awake: () => awake });
    for (const log of [busy, gone]) {
      (await logs.open(log)).write('hot', 'info', 'x');
      await logs.ship(log);
    }
    awake = 2000;
    expect(await logs.prune(1000, ({ id }) => id === busy.id)).toBe(1);
    expect([await logs.epochs(busy), await logs.epochs(gone)]).toEqual([[1], []]);
    expect(await readdir(join(stateDir, 'logs'))).toHaveLength(1);
  });

  it('forgets no log because the file that names its owner cannot be read now; a damaged one is left alone', async () => {
    const root = join(stateDir, 'logs');
    await mkdir(join(root, 'session.unreadable', 'owner.json'), { recursive: true });
    await expect(ownersIn(root)).rejects.toMatchObject({ code: 'EISDIR' });
    await rm(join(root, 'session.unreadable'), { recursive: true });
    await mkdir(join(root, 'session.damaged'));
    await writeFile(join(root, 'session.damaged', 'owner.json'), '{');
    expect(await ownersIn(root)).toEqual([]);
  });

  it('an odd id never becomes a path', async () => {
    for (const id of ['default/../1', 'default/.hidden/1', '../../x', 'default/a/b/1', 'default/a/0']) {
      await expect(open().epochs({ kind: 'session', id })).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    }
    await expect(open().epochs({ kind: 'workload', id: '../x' })).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    await expect(Promise.resolve().then(() => open().open(workloadRef('..', 0)))).rejects.toMatchObject({
      code: 'SPEC_INVALID',
    });
    await expect(Promise.resolve().then(() => open().open(workloadRef('w', -1)))).rejects.toMatchObject({
      code: 'SPEC_INVALID',
    });
  });

  it('removes only spools that are shipped, idle and of no VM here', async () => {
    let awake = 1_000_000;
    const logs = open({ awake: () => awake });
    for (const id of ['gone', 'busy', 'unshipped']) await writeTo(logs, id, 0, 'x');
    await logs.ship(workloadRef('gone', 0));
    await logs.ship(workloadRef('busy', 0));
    await (await logs.open(workloadRef('unshipped', 0))).flush();
    const inUse = ({ id }: OwnerId) => id === 'busy';
    expect(await logs.prune(1000, inUse)).toBe(0);
    awake += 1000;
    expect(await logs.prune(1000, inUse)).toBe(1);
    expect([
      await logs.epochs({ kind: 'workload', id: 'gone' }),
      await logs.epochs({ kind: 'workload', id: 'busy' }),
      await logs.epochs({ kind: 'workload', id: 'unshipped' }),
    ]).toEqual([[], [0], [0]]);
  });

  it('a step of the wall clock alone makes no spool idle', async () => {
    let now = 1_000_000;
    const logs = open({ now: () => now, awake: () => 0 });
    await writeTo(logs, 'building', 0, 'x');
    await logs.ship(workloadRef('building', 0));
    now += 48 * 3_600_000;
    expect(await logs.prune(1000, () => false)).toBe(0);
    expect(await logs.epochs({ kind: 'workload', id: 'building' })).toEqual([0]);
  });
});
