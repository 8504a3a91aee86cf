/**
 * `npm run fuzz -- --minutes N [--seed S]`: every fuzzer of guest bytes, half of the time in Go (the agent's parsers), half
 * in TypeScript (the host's). What Go finds is kept in `testdata/fuzz/` and runs in every `go test` from then on; what
 * TypeScript finds is printed with seed and path. `--only NAME --path P` runs one of the latter again.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { pinnedNode, projectRoot } from './setup/places.mjs';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '2' },
    seed: { type: 'string' },
    only: { type: 'string' },
    path: { type: 'string' },
  },
});
const seconds = Number(values.minutes) * 60;
if (!Number.isFinite(seconds) || seconds <= 0) {
  process.stderr.write('fuzz: --minutes takes a number above 0\n');
  process.exit(2);
}

function run(command, args, cwd = projectRoot) {
  const { status } = spawnSync(command, args, { cwd, stdio: 'inherit' });
  return status === 0;
}

/** @returns every `func FuzzX` of the agent with the folder that it is in */
function goFuzzers(agent) {
  return readdirSync(agent, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.name.endsWith('_test.go'))
    .flatMap((entry) => {
      const text = readFileSync(join(entry.parentPath, entry.name), 'utf8');
      return [...text.matchAll(/^func (Fuzz\w+)\(/gm)].map(([, name]) => ({ name, folder: entry.parentPath }));
    });
}

let good = true;
if (values.only === undefined) {
  const fuzzers = goFuzzers(join(projectRoot, 'guest', 'agent'));
  const each = Math.max(1, Math.round(seconds / 2 / fuzzers.length));
  for (const { name, folder } of fuzzers) {
    good =
      run('go', ['test', '-run', '^$', '-fuzz', `^${name}$`, '-fuzztime', `${each}s`, '-parallel', '2', '.'], folder) &&
      good;
  }
}
const own = Object.entries(values).flatMap(([name, value]) =>
  name === 'minutes' || value === undefined ? [] : [`--${name}`, value],
);
const half = String(values.only === undefined ? seconds / 2 : seconds);
good = run(pinnedNode(), [join('test', 'fuzz', 'main.ts'), '--seconds', half, ...own]) && good;
process.exitCode = good ? 0 : 1;
