/** A worker that is killed during a freeze, or during the life of a clone: its successor leaves nothing of it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SeededRandom } from '../../chaos/random.ts';
import { digestDisk } from '../../host/disks/disk-digest.ts';
import { freezeInto } from '../support/guest/frozen-guest.ts';
import { openLimitedDriver } from '../support/host/limited-driver.ts';
import { type Places, whatIsLeft } from '../support/host/nothing-left.ts';

const VM = 'a-1-1';
const NAME = '0123456789abcdef-k1';
const worker = fileURLToPath(new URL('killed-worker.ts', import.meta.url));

let root: string;
let places: Places;
const templates = () => join(places.stateDir, 'templates');

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'kw-'));
  await chmod(root, 0o711);
  places = { stateDir: join(root, 'state'), runtimeDir: join(root, 'run') };
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** Starts a worker. @returns it once it has begun the work */
async function begun(work: object): Promise<ChildProcess> {
  const child = spawn(process.execPath, [worker, JSON.stringify({ places, work })], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (child.stdout !== null) await once(child.stdout, 'data');
  return child;
}

const ended = async (child: ChildProcess) => {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
};

/** @returns the duration of the work when nobody kills the worker, ms */
async function wholeTime(work: object): Promise<number> {
  const child = await begun(work);
  const from = performance.now();
  await ended(child);
  expect(child.exitCode).toBe(0);
  return performance.now() - from;
}

/** Kills the worker `kills` times, each time at a random moment of the next part of the work; `check` follows each. */
async function killAllAlong(work: object, kills: number, seed: number, check: () => Promise<void>): Promise<void> {
  const random = new SeededRandom(seed);
  const wholeMs = await wholeTime(work);
  await check();
  for (let kill = 0; kill < kills; kill++) {
    const child = await begun(work);
    await delay((wholeMs * (kill + random.next())) / kills);
    child.kill('SIGKILL');
    await ended(child);
    await check();
  }
}

describe('a worker that is killed', () => {
  it('in the middle of a freeze: nothing but its directory is left, and that goes', async () => {
    const directory = join(templates(), `${NAME}.building`);
    await killAllAlong({ kind: 'freeze', directory, name: NAME }, 6, 1, async () => {
      await (await openLimitedDriver(places)).templates?.clearFreeze({ name: NAME, directory });
      await rm(directory, { recursive: true, force: true });
      expect(await whatIsLeft(places)).toEqual([]);
    });
  });

  it('in the life of a clone, from its disks to its end: its successor destroys it whole, and the template stays', async () => {
    const template = join(templates(), 'whole');
    await freezeInto(await openLimitedDriver(places), template, 'whole');
    const frozen = async () =>
      Promise.all((await readdir(template)).sort().map((name) => digestDisk(join(template, name))));
    const before = await frozen();
    await killAllAlong({ kind: 'clone', template, vmId: VM }, 10, 2, async () => {
      await (await openLimitedDriver(places)).destroy(VM);
      expect(await whatIsLeft(places)).toEqual([]);
      expect(await frozen()).toEqual(before);
    });
  });
});
