import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import {
  hostBootId,
  identify,
  isAlive,
  killProven,
  parseProcStat,
  processStartTime,
  readProcess,
  sendSignal,
  waitGone,
} from '../../../linux/process-identity.ts';

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

async function sleeper(): Promise<{ pid: number; child: ChildProcess }> {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  children.push(child);
  await once(child, 'spawn');
  return { pid: child.pid ?? 0, child };
}

const line = (name: string, state = 'S', start = '4711') =>
  `17 (${name}) ${state} 5 ${Array.from({ length: 15 }, (_, n) => n).join(' ')} 3 0 ${start} 1 2 3\n`;

describe('stat line of a process', () => {
  it('is read whatever the name of the process is', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 40 }), fc.nat(), (name, start) => {
        expect(parseProcStat(line(name, 'R', `${start}`))).toEqual({
          pid: 17,
          parentPid: 5,
          session: 1,
          state: 'R',
          threads: 3,
          startTicks: `${start}`,
        });
      }),
    );
  });

  it('a name that looks like the end of the name does not shift the fields', () => {
    expect(parseProcStat(line('a) S 1 2'))?.startTicks).toBe('4711');
  });

  it('anything else is no stat line, and never throws', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(parseProcStat(`x${text}`)).toBeUndefined();
      }),
    );
    expect(parseProcStat('17 (a) S 5 1 2')).toBeUndefined();
  });
});

describe('identity of a process', () => {
  it('is of one process on one boot of the host', async () => {
    const { pid } = await sleeper();
    const identity = await identify(pid);
    if (identity === undefined) throw new Error('the child should live');
    expect(identity.hostBootId).toBe(await hostBootId());
    expect(await isAlive(identity)).toBe(true);
    expect(await isAlive({ ...identity, startTicks: `${Number(identity.startTicks) + 1}` })).toBe(false);
    expect(await isAlive({ ...identity, hostBootId: 'another boot' })).toBe(false);
  });

  it('a process with the same pid and another start time is not killed', async () => {
    const { pid, child } = await sleeper();
    const identity = await identify(pid);
    if (identity === undefined) throw new Error('the child should live');
    await killProven({ ...identity, startTicks: '1' }, { pollMs: 1, timeoutMs: 1000 });
    expect(child.exitCode ?? child.signalCode).toBeNull();
    expect(await isAlive(identity)).toBe(true);
  });

  it('a kill returns once the process is gone, and may be repeated', async () => {
    const { pid } = await sleeper();
    const identity = await identify(pid);
    if (identity === undefined) throw new Error('the child should live');
    await killProven(identity, { pollMs: 1, timeoutMs: 10_000 });
    expect(await isAlive(identity)).toBe(false);
    await killProven(identity, { pollMs: 1, timeoutMs: 10_000 });
  });

  it('a process of which the first thread has ended lives while another one does', async () => {
    const script = 'use threads; threads->create(sub { sleep 1000 }); $| = 1; print "up"; syscall(60, 0)';
    const child = spawn('perl', ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(child);
    await once(child.stdout, 'data');
    await expect.poll(async () => (await readProcess(child.pid ?? 0))?.state).toBe('Z');
    const identity = await identify(child.pid ?? 0);
    if (identity === undefined) throw new Error('a thread is left, so the process lives');
    expect(await isAlive(identity)).toBe(true);
    await killProven(identity, { pollMs: 1, timeoutMs: 10_000 });
    expect(await isAlive(identity)).toBe(false);
  });

  it('a wait ends with the time, with the signal and with the process', async () => {
    const { pid, child } = await sleeper();
    const identity = await identify(pid);
    if (identity === undefined) throw new Error('the child should live');
    expect(await waitGone(identity, { pollMs: 1, timeoutMs: 5 })).toBe(false);
    const abort = new AbortController();
    const aborted = waitGone(identity, { pollMs: 1, timeoutMs: 60_000, signal: abort.signal });
    abort.abort();
    await expect(aborted).rejects.toThrow();
    const gone = waitGone(identity, { pollMs: 1, timeoutMs: 60_000 });
    child.kill('SIGKILL');
    expect(await gone).toBe(true);
  });
});

describe('start time of a process', () => {
  it('is the one that the kernel tells', async () => {
    const { pid } = await sleeper();
    expect(await processStartTime(pid)).toBe((await readProcess(pid))?.startTicks);
    expect(await processStartTime(pid)).toMatch(/^[1-9]\d*$/);
  });

  it('is none where there is no process, or only one that waits to be collected', async () => {
    expect(await processStartTime(2 ** 22 + 1)).toBe('');
    // The shell replaces itself with a program that never collects its child, and the child ends at once.
    const parent = spawn('sh', ['-c', 'sh -c "echo \\$\\$" & exec sleep 1000'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(parent);
    const [said]: Buffer[] = await once(parent.stdout, 'data');
    const pid = Number(said);
    await expect.poll(async () => (await readProcess(pid))?.state).toBe('Z');
    expect(await processStartTime(pid)).toBe('');
  });
});

describe('a signal', () => {
  it('says whether there was a process to have it', async () => {
    const { pid, child } = await sleeper();
    expect(sendSignal(pid, 'SIGTERM')).toBe(true);
    await once(child, 'exit');
    expect(child.signalCode).toBe('SIGTERM');
    expect(sendSignal(pid, 'SIGTERM')).toBe(false);
  });

  it('that cannot be sent is an error', () => {
    expect(() => sendSignal(2 ** 53, 'SIGTERM')).toThrow();
  });
});
