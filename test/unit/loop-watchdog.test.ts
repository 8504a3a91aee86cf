import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';

const PROGRAM = fileURLToPath(new URL('../support/servers/watched-process.ts', import.meta.url));
const STUCK_MS = 500;

let child: ChildProcessByStdio<Writable, Readable, Readable>;
let ended: Promise<unknown[]>;
/** Buffers lines that have not been read yet. */
let lines: NodeJS.AsyncIterator<string>;
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
  lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  expect(await nextLine()).toBe('ready');
}

/** @returns the next line that the process prints. @throws if the process has ended instead */
async function nextLine(): Promise<string> {
  const { done, value } = await lines.next();
  if (done) throw new Error(`the process has ended: ${stderr}`);
  return value;
}

/** Blocks the loop. @param meanwhile runs while it is blocked */
async function blocks(how: string, meanwhile: () => Promise<void> | void = () => undefined): Promise<void> {
  child.stdin.write(`${how}\n`);
  expect(await nextLine()).toBe('begun');
  await meanwhile();
  expect(await nextLine()).toBe(how);
}

describe('a process whose event loop is watched', () => {
  it.each([
    ['compute Infinity', 'R'],
    ['wait Infinity', 'S'],
  ])('%s: is ended, and says so in one line of log', async (how, state) => {
    await start(STUCK_MS);
    await blocks('compute 1');
    child.stdin.write(`${how}\n`);
    expect(await ended).toEqual([null, 'SIGKILL']);
    expect(JSON.parse(stderr)).toMatchObject({
      level: 60,
      name: 'sample',
      pid: child.pid,
      state,
      msg: expect.stringContaining('the event loop has not turned'),
    });
  });

  it('lives on where it is busy for less than it may, again and again', async () => {
    await start(STUCK_MS);
    for (let n = 0; n < 6; n++) await blocks(`compute ${STUCK_MS / 4}`);
    expect(stderr).toBe('');
  });

  it.each(['compute', 'wait'])('%s: lives on where it was stopped for longer, in the middle of it', async (how) => {
    await start(STUCK_MS);
    await blocks(`${how} ${STUCK_MS / 4}`, async () => {
      child.kill('SIGSTOP');
      await delay(2 * STUCK_MS);
      child.kill('SIGCONT');
    });
    await blocks('compute 1');
    expect(stderr).toBe('');
  });

  it('is not watched where that is switched off', async () => {
    await start(0);
    await blocks(`wait ${2 * STUCK_MS}`);
    expect(stderr).toBe('');
  });

  it('ends when its work is over, in spite of the watch', async () => {
    await start(STUCK_MS);
    child.stdin.end();
    expect(await ended).toEqual([0, null]);
  });
});
