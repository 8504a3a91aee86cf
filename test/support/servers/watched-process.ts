/**
 * A process whose event loop is watched. It blocks the loop as its standard input says: `compute` uses that much CPU
 * time, `wait` only waits, both in ms.
 */
import { createInterface } from 'node:readline';
import { watchLoop } from '../../../workers/loop-watchdog.ts';

const US_PER_MS = 1000;
const WAIT_MS = 10;
const nobody = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
const cpuMs = (): number => {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / US_PER_MS;
};
const say = (line: string) => process.stdout.write(`${line}\n`);

watchLoop({ name: 'sample', stuckMs: Number(process.argv[2]) });
createInterface({ input: process.stdin }).on('line', (line) => {
  const [word, ms] = line.split(' ');
  say('begun');
  const end = cpuMs() + Number(ms);
  if (word === 'compute') while (cpuMs() < end);
  // In small steps: a stopped process would otherwise find its whole wait over when it is continued.
  if (word === 'wait') for (let left = Number(ms); left > 0; left -= WAIT_MS) Atomics.wait(nobody, 0, 0, WAIT_MS);
  say(line);
});
say('ready');
