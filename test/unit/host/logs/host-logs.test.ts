import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KilnError } from '../../../../domain/failures.ts';
import { createWorkloadLogs, type HostLogs, type WorkloadLogsOptions } from '../../../../host/logs/host-logs.ts';
import { silentLogger } from '../../../support/silent-logger.ts';

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

function open(more: Partial<WorkloadLogsOptions> = {}): HostLogs {
  const logs = createWorkloadLogs({
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
  (await logs.open(workloadId, epoch)).write('running', 'info', line);

describe('workload logs', () => {
  it('ships under the keys that readers know', async () => {
    const logs = open();
    await writeTo(logs, 'w1', 2, 'a');
    await logs.ship('w1', 2);
    await writeTo(logs, 'w1', 2, 'b');
    await logs.ship('w1', 2);
    await logs.ship('w1', 2);
    expect([...blobs.keys()]).toEqual(['logs/w1/2-h1/0000000000.jsonl', 'logs/w1/2-h1/0000000001.jsonl']);
    expect(blobs.get('logs/w1/2-h1/0000000001.jsonl')).toContain('"message":"b"');
  });

  it('a ship takes everything written before it, also beside another one', async () => {
    const logs = open();
    const lines = Array.from({ length: 20 }, (_, index) => `line ${index}`);
    await Promise.all(
      lines.map(async (line) => {
        await writeTo(logs, 'w1', 0, line);
        await logs.ship('w1', 0);
        expect([...blobs.values()].join('')).toContain(`"${line}"`);
      }),
    );
    expect(logs.unshippedBytes()).toBe(0);
  });

  it('ships in the background what an earlier process left', async () => {
    const earlier = open();
    await writeTo(earlier, 'w1', 0, 'left');
    storeIsAway = true;
    await expect(earlier.ship('w1', 0)).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
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
    expect(await open().read('w1', 0, -1, 10)).toMatchObject([{ n: 0, message: 'last words' }]);
  });

  it('remembers the offset of the service', async () => {
    expect(await open().serviceOffset('w1', 0)).toBe(0);
    await open().saveServiceOffset('w1', 0, 4711);
    expect(await open().serviceOffset('w1', 0)).toBe(4711);
  });

  it('a reader of what is not there makes nothing', async () => {
    const logs = open();
    expect(await logs.read('w1', 0, -1, 10)).toEqual([]);
    expect(await logs.epochs('w1')).toEqual([]);
  });

  it('an odd id never becomes a path', async () => {
    await expect(open().epochs('../x')).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    await expect(Promise.resolve().then(() => open().open('..', 0))).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    await expect(Promise.resolve().then(() => open().open('w', -1))).rejects.toMatchObject({ code: 'SPEC_INVALID' });
  });

  it('removes only spools that are shipped, idle and of no VM here', async () => {
    let awake = 1_000_000;
    const logs = open({ awake: () => awake });
    for (const id of ['gone', 'busy', 'unshipped']) await writeTo(logs, id, 0, 'x');
    await logs.ship('gone', 0);
    await logs.ship('busy', 0);
    await (await logs.open('unshipped', 0)).flush();
    const inUse = (id: string) => id === 'busy';
    expect(await logs.prune(1000, inUse)).toBe(0);
    awake += 1000;
    expect(await logs.prune(1000, inUse)).toBe(1);
    expect([await logs.epochs('gone'), await logs.epochs('busy'), await logs.epochs('unshipped')]).toEqual([
      [],
      [0],
      [0],
    ]);
  });

  it('a step of the wall clock alone makes no spool idle', async () => {
    let now = 1_000_000;
    const logs = open({ now: () => now, awake: () => 0 });
    await writeTo(logs, 'building', 0, 'x');
    await logs.ship('building', 0);
    now += 48 * 3_600_000;
    expect(await logs.prune(1000, () => false)).toBe(0);
    expect(await logs.epochs('building')).toEqual([0]);
  });
});
