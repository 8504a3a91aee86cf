/** A process whose event loop is watched; blocks it, or answers, as its standard input says. */
import { createInterface } from 'node:readline';
import { watchLoop } from '../../workers/loop-watchdog.ts';

watchLoop({ name: 'sample', stuckMs: Number(process.argv[2]) });
const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  const [word, ms] = line.split(' ');
  const end = performance.now() + Number(ms ?? Number.POSITIVE_INFINITY);
  if (word === 'block') while (performance.now() < end);
  process.stdout.write(`${line}\n`);
});
lines.once('close', () => undefined);
process.stdout.write('ready\n');
