/**
 * A process whose event loop is watched; blocks it as its standard input says: `compute` for so much CPU time, `wait` so
 * long for something, ms.
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
  // Bit by bit: what a stopped process has waited for is over at once when it goes on.
  if (word === 'wait') for (let left = Number(ms); left > 0; left -= WAIT_MS) Atomics.wait(nobody, 0, 0, WAIT_MS);
  say(line);
});
say('ready');
