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
  return spawnSync(command, args, { cwd, stdio: 'inherit' }).status === 0;
}

/** Go reports the end of its time as a failure if it comes in the middle of a run: a real finding names its input. */
function fuzzGo(name, folder, time) {
  const options = [
    '-run',
    '^$',
    '-fuzz',
    `^${name}$`,
    '-fuzztime',
    `${time}s`,
    '-fuzzminimizetime',
    '1s',
    '-parallel',
    '2',
  ];
  const { status, stdout } = spawnSync('go', ['test', ...options, '.'], { cwd: folder, encoding: 'utf8' });
  process.stdout.write(stdout);
  return status === 0 || (/^ +context deadline exceeded$/m.test(stdout) && !stdout.includes('Failing input'));
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
    good = fuzzGo(name, folder, each) && good;
  }
}
const own = Object.entries(values).flatMap(([name, value]) =>
  name === 'minutes' || value === undefined ? [] : [`--${name}`, value],
);
const half = String(values.only === undefined ? seconds / 2 : seconds);
good = run(pinnedNode(), [join('test', 'fuzz', 'main.ts'), '--seconds', half, ...own]) && good;
process.exitCode = good ? 0 : 1;
