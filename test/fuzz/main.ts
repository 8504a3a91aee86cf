/** `npm run fuzz`: runs the properties of guest-bytes.ts for a time. Prints seed and path of a failure; exit code 1. */

import { parseArgs } from 'node:util';
import fc from 'fast-check';
import { defined } from '../../domain/defined.ts';
import { FUZZ_TARGETS } from './guest-bytes.ts';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string' },
    path: { type: 'string' },
    only: { type: 'string' },
  },
});
const seed = values.seed === undefined ? Date.now() & 0x7fffffff : Number(values.seed);
process.on('unhandledRejection', (error) => {
  process.stderr.write(`unhandled rejection, seed ${seed}: ${String(error)}\n`);
  process.exit(1);
});
const targets = FUZZ_TARGETS.filter(({ name }) => values.only === undefined || name === values.only);
for (const { name, property } of targets) {
  const result = await fc.check(property, {
    seed,
    numRuns: Number.MAX_SAFE_INTEGER,
    interruptAfterTimeLimit: (Number(values.seconds) * 1000) / targets.length,
    ...defined({ path: values.path }),
  });
  process.stdout.write(`${name}: ${result.numRuns} runs, seed ${seed}${result.failed ? ` FAILED` : ''}\n`);
  if (!result.failed) continue;
  process.exitCode = 1;
  process.stdout.write(
    `${fc.defaultReportMessage(result) ?? ''}\nagain: npm run fuzz -- --only '${name}' --seed ${seed} --path ${result.counterexamplePath}\n`,
  );
}
