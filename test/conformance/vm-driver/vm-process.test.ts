/** All processes of a killed VM are gone, even those that can no longer be recognized. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { identify } from '../../../linux/process-identity.ts';
import { readTextIfThere } from '../../../linux/read-text.ts';
import { killVmProcesses, spawnDetached } from '../../../vmm/vm-process.ts';

/** Has no command line, like a process that is ending, and ends a while after the first process of its session. */
const ENDING = `
  process.stdin.on('end', () => setTimeout(() => process.exit(), 200)).resume();
  process.title = '';
  process.stdout.write(process.pid + '\\n');
`;
const LEADER = `
  require('node:child_process').spawn(process.execPath, ['-e', ${JSON.stringify(ENDING)}], { stdio: ['pipe', 1, 2] });
`;
let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kp-'));
});
afterEach(() => rm(root, { recursive: true, force: true }));

it('a process of its session that is ending, and has lost its command line, is waited for', async () => {
  const log = join(root, 'log');
  const { process: leader, end } = await spawnDetached({ argv: [process.execPath, '-e', LEADER] }, log);
  const ended = end();
  const untilNamed = async () => Number((await readTextIfThere(log))?.trim());
  await expect.poll(untilNamed, { interval: 10 }).toBeGreaterThan(0);
  const ending = await untilNamed();
  await killVmProcesses(() => false, leader, { pollMs: 5, timeoutMs: 60_000 });
  await ended;
  expect(await identify(ending)).toBeUndefined();
});
