import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { createHostInspections } from '../../../host/inspections.ts';
import type { InspectionPool, InspectionSettings } from '../../../inspection/inspection-pool.ts';
import { identify, isAlive } from '../../../linux/process-identity.ts';
import { inspectionSettings, LIMITS, SCRIPTED_READER } from '../../support/inspection/inspection-pools.ts';

const PARENT = fileURLToPath(new URL('../../support/inspection/inspection-parent.ts', import.meta.url));
const SPIN_CPU_MS = 300;

let pool: InspectionPool | undefined;
const warnings: object[] = [];

afterEach(async () => {
  await pool?.stop();
  pool = undefined;
  warnings.length = 0;
});

function made(settings: Partial<InspectionSettings> = {}): InspectionPool {
  const logger = { warn: (details: object) => void warnings.push(details) };
  pool = createHostInspections(inspectionSettings({ children: 1, ...settings }), logger, SCRIPTED_READER);
  return pool;
}

function started(settings: Partial<InspectionSettings> = {}): InspectionPool {
  const asked = made(settings);
  asked.start();
  return asked;
}

const ask = (asked: InspectionPool, servicePath: string, signal?: AbortSignal, owner = '') =>
  asked.inspect({ root: '/', servicePath, limits: LIMITS }, { owner, signal }).then(({ hooks }) => hooks.start);

const pidOf = (answer: string): number => Number(/^pid (\d+)/.exec(answer)?.[1]);
const gone = async (pid: number) => (await identify(pid)) === undefined;

describe('the processes that read folders', () => {
  it('are used again', async () => {
    const asked = started();
    const first = await ask(asked, 'answer');
    expect(await ask(asked, 'answer')).toBe(first.replace('count 1', 'count 2'));
    expect(asked.pids()).toEqual([pidOf(first)]);
  });

  it('are replaced after as many requests as they are good for', async () => {
    const asked = started({ recycleAfter: 2 });
    const pids = [];
    for (let n = 0; n < 4; n++) pids.push(pidOf(await ask(asked, 'answer')));
    expect([pids[0] === pids[1], pids[1] === pids[2], pids[2] === pids[3]]).toEqual([true, false, true]);
  });

  it('are replaced once they hold too much', async () => {
    const asked = started({ recycleMib: 1 });
    expect(pidOf(await ask(asked, 'answer'))).not.toBe(pidOf(await ask(asked, 'answer')));
  });

  it('leave this process free: it goes on answering while one of them spins', async () => {
    const asked = started({ children: 2 });
    const end = new AbortController();
    let isOver = false;
    const spinning = ask(asked, 'spin', end.signal).catch((error: unknown) => {
      isOver = true;
      return error;
    });
    for (let n = 0; n < 20; n++) expect(await ask(asked, 'answer')).toMatch(/^pid/);
    expect(isOver).toBe(false);
    end.abort(new Error('no longer wanted'));
    expect(await spinning).toMatchObject({ message: 'no longer wanted' });
  });

  it.each([
    ['spin', { inspect: { cpuMs: SPIN_CPU_MS, wallMs: 3_600_000 } }, 'cpu', '0.3 s of CPU time'],
    ['hang', { inspect: { cpuMs: 3_600_000, wallMs: 100 } }, 'wall', '0.1 s'],
    ['grow', { memoryMib: 128, lookEveryMs: 3_600_000 }, 'memory', '128 MiB of memory'],
    ['grow', { memoryMib: 128 }, 'memory', '128 MiB of memory'],
    ['grow heap', { memoryMib: 128, lookEveryMs: 3_600_000 }, 'memory', '128 MiB of memory'],
    ['out of memory by itself', {}, 'memory', 'more memory'],
  ])('%s: INSPECTION_LIMIT, and the next request is answered (%#)', async (act, settings, limit, named) => {
    const asked = started(settings);
    const before = pidOf(await ask(asked, 'answer'));
    await expect(ask(asked, act)).rejects.toMatchObject({
      code: 'INSPECTION_LIMIT',
      retryable: false,
      details: { limit },
      message: expect.stringContaining(named),
    });
    await expect.poll(() => gone(before)).toBe(true);
    expect(pidOf(await ask(asked, 'answer'))).not.toBe(before);
  });

  it.each([
    'exit',
    'no JSON',
    'another kind of thing',
    'a code it may not name',
    'an answer to nothing',
    'an answer to another question',
    'ready again',
    'a line without end',
  ])('%s: an error without a code, so that it is tried again, and a new process', async (act) => {
    const asked = started();
    const before = pidOf(await ask(asked, 'answer'));
    const error: unknown = await ask(asked, act).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(Error);
    expect(error).not.toHaveProperty('code');
    expect(warnings).toEqual([{ reason: expect.any(String) }]);
    expect(pidOf(await ask(asked, 'answer'))).not.toBe(before);
    expect(await gone(before)).toBe(true);
  });

  it('are not asked again once they have said what nobody asked', async () => {
    const asked = started();
    const before = pidOf(await ask(asked, 'answer'));
    await ask(asked, 'two answers');
    // The kernel knows of its end before the pool does, which until then may still ask it.
    await expect.poll(() => asked.pids().includes(before)).toBe(false);
    await expect.poll(() => gone(before)).toBe(true);
    expect(pidOf(await ask(asked, 'answer'))).not.toBe(before);
  });

  it('name errors of the system by their code', async () => {
    await expect(ask(started(), 'a full disk')).rejects.toMatchObject({ code: 'ENOSPC' });
  });

  it('are replaced after a kill -9, in the middle of a request and between two', async () => {
    const asked = started();
    // The request waits for a process, which takes it as soon as it exists: so the kill hits it in the middle.
    const hanging = ask(asked, 'hang').catch((error: unknown) => error);
    await expect.poll(() => asked.pids().length, { interval: 1 }).toBe(1);
    for (const pid of asked.pids()) process.kill(pid, 'SIGKILL');
    expect(await hanging).toBeInstanceOf(Error);
    const second = pidOf(await ask(asked, 'answer'));
    process.kill(second, 'SIGKILL');
    await expect.poll(() => asked.pids().length === 1 && !asked.pids().includes(second)).toBe(true);
    expect(pidOf(await ask(asked, 'answer'))).not.toBe(second);
  });

  it('end with their owner, even one that is killed while they spin', async () => {
    const parent = spawn(process.execPath, [PARENT], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = await once(parent.stdout, 'data');
    const identity = await identify(Number(String(line)));
    expect(identity).toBeDefined();
    parent.kill('SIGKILL');
    await expect.poll(async () => identity !== undefined && (await isAlive(identity))).toBe(false);
  });

  it('are gone when the pool is stopped; what is under way or waits fails', async () => {
    const asked = started();
    const pid = pidOf(await ask(asked, 'answer'));
    const asking = [ask(asked, 'spin'), ask(asked, 'answer')].map((answer) => answer.catch((error: unknown) => error));
    await asked.stop();
    expect(await Promise.all(asking)).toEqual([expect.any(Error), expect.any(Error)]);
    expect(await gone(pid)).toBe(true);
    await expect(ask(asked, 'answer')).rejects.toThrow();
  });
});

describe('requests that wait', () => {
  it('are refused where there are too many, of all or of one owner, as something to try again', async () => {
    const asked = made({ maxWaiting: 3, maxWaitingPerProject: 2 });
    const waiting = ['a', 'a'].map((owner) => ask(asked, 'answer', undefined, owner));
    await expect(ask(asked, 'answer', undefined, 'a')).rejects.toThrow('more services wait');
    waiting.push(ask(asked, 'answer', undefined, 'b'));
    await expect(ask(asked, 'answer', undefined, 'c')).rejects.not.toHaveProperty('code');
    asked.start();
    expect(await Promise.all(waiting)).toHaveLength(3);
  });

  it('are given up at once by their signal, and do not run', async () => {
    const asked = made();
    const giveUp = new AbortController();
    const waiting = ask(asked, 'answer', giveUp.signal);
    giveUp.abort(new Error('not wanted'));
    await expect(waiting).rejects.toThrow('not wanted');
    await expect(ask(asked, 'answer', giveUp.signal)).rejects.toThrow('not wanted');
    asked.start();
    expect(await ask(asked, 'answer')).toMatch(/count 1$/);
  });

  it('fail where no process can be started', async () => {
    const logger = { warn: () => undefined };
    const settings = inspectionSettings({ children: 1 });
    pool = createHostInspections(settings, logger, '/nowhere/reader.ts');
    const asking = ask(pool, 'answer');
    pool.start();
    await expect(asking).rejects.toThrow('services cannot be read here');
  });
});
