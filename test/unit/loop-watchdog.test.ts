import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';

const PROGRAM = fileURLToPath(new URL('../support/watched-process.ts', import.meta.url));
const STUCK_MS = 400;

let child: ChildProcessByStdio<Writable, Readable, Readable>;
let ended: Promise<unknown[]>;
let lines: Interface;
let stderr = '';

afterEach(async () => {
  child.kill('SIGKILL');
  await ended;
});

async function start(stuckMs: number): Promise<void> {
  stderr = '';
  child = spawn(process.execPath, [PROGRAM, String(stuckMs)], { stdio: ['pipe', 'pipe', 'pipe'] });
  ended = once(child, 'close');
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  lines = createInterface({ input: child.stdout });
  await once(lines, 'line');
}

/** @returns once the process has done what the line says */
async function said(line: string): Promise<void> {
  const answer = once(lines, 'line');
  child.stdin.write(`${line}\n`);
  expect(await Promise.race([answer, ended])).toEqual([line]);
}

describe('a process whose event loop is watched', () => {
  it('is ended once the loop stands still, and says so in one line of log', async () => {
    await start(STUCK_MS);
    await said('answer');
    child.stdin.write('block\n');
    expect(await ended).toEqual([null, 'SIGKILL']);
    expect(JSON.parse(stderr)).toMatchObject({
      level: 60,
      name: 'sample',
      pid: child.pid,
      state: 'R',
      msg: expect.stringContaining('the event loop has not turned'),
    });
  });

  it('lives on where it is busy for less than it may, again and again', async () => {
    await start(STUCK_MS);
    for (let n = 0; n < 6; n++) await said(`block ${STUCK_MS / 4}`);
    await said('answer');
    expect(stderr).toBe('');
  });

  it('lives on where it was stopped for longer', async () => {
    await start(STUCK_MS);
    child.kill('SIGSTOP');
    await delay(3 * STUCK_MS);
    child.kill('SIGCONT');
    await said('answer');
    // Longer than it may stand still, with the watch on.
    for (let n = 0; n < 6; n++) await said(`block ${STUCK_MS / 4}`);
    expect(stderr).toBe('');
  });

  it('is not watched where that is switched off', async () => {
    await start(0);
    await said(`block ${3 * STUCK_MS}`);
    expect(stderr).toBe('');
  });

  it('ends when its work is over, in spite of the watch', async () => {
    await start(STUCK_MS);
    child.stdin.end();
    expect(await ended).toEqual([0, null]);
  });
});
