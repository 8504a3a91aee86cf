/**
 * `npm test`: set-up, then every suite; the last line is `N passed, N failed` (`, N skipped`) over all of them.
 * Arguments go to vitest and leave out the suites that are not vitest's: `npm test -- --project unit`.
 * `--quick` is the daily loop: types, lint, import rules, and the kinds of tests that need no guest and kill nothing.
 */

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pinnedNode, projectRoot } from './setup/places.mjs';
import { setUpOrExit } from './setup.mjs';

/** Kinds that `--quick` runs; most of their time they wait for timers and servers. */
const QUICK = { kinds: ['workflow', 'replay', 'unit'], files: 3 };

/**
 * What runs side by side. The first lane begins with whole stacks and their guests, one file at a time, after the unit
 * tests, which vitest starts first since they share a process; the other lane waits for a part of its time, and comes to
 * its guests when those stacks are done. Both take about as long.
 */
const LANES = [
  { kinds: ['e2e', 'boundary', 'store', 'replay', 'unit'], files: 1 },
  { kinds: ['fault', 'conformance', 'workflow', 'vm'], files: 2 },
];

/** `failures`: what each failure was, in words, told again at the very end, where a reader of a long log looks first. */
const NOTHING = { passed: 0, failed: 0, skipped: 0, failures: [] };
const add = (a, b) => ({
  passed: a.passed + b.passed,
  failed: a.failed + b.failed,
  skipped: a.skipped + b.skipped,
  failures: [...a.failures, ...b.failures],
});

/** Runs a suite in the foreground. @returns its exit code, and its stdout where `onStdout` is given */
function foreground(argv, { cwd = projectRoot, onStdout } = {}) {
  return new Promise((resolve) => {
    const child = spawn(argv[0], argv.slice(1), {
      cwd,
      env: {
        ...process.env,
        PATH: `${dirname(pinnedNode())}:${process.env.PATH}`,
        // The tests start some hundred processes of Node: each then finds its modules compiled.
        NODE_COMPILE_CACHE: join(projectRoot, 'node_modules', '.kiln-compile-cache'),
      },
      stdio: ['ignore', onStdout === undefined ? 'inherit' : 'pipe', 'inherit'],
    });
    child.stdout?.setEncoding('utf8').on('data', onStdout);
    for (const signal of ['SIGTERM', 'SIGHUP']) process.once(signal, () => child.kill(signal));
    // Ctrl-C reaches the suite by itself; the sum is still printed.
    process.once('SIGINT', () => {
      if (!process.stdin.isTTY) child.kill('SIGINT');
    });
    child.on('error', (error) => {
      process.stderr.write(`${argv[0]}: ${error.message}\n`);
      resolve(127);
    });
    child.on('close', (code) => resolve(code ?? 1));
  });
}

/** Longest text of one failure that is told again, in characters; its whole is further up. */
const FAILURE_CHARS = 1500;
const failure = (name, text) => `${name}\n${text.slice(0, FAILURE_CHARS)}`;

async function vitest(extra) {
  const directory = mkdtempSync(join(tmpdir(), 'kiln-test-'));
  const report = join(directory, 'report.json');
  try {
    const code = await foreground([
      pinnedNode(),
      join(projectRoot, 'node_modules', 'vitest', 'vitest.mjs'),
      'run',
      ...['--reporter=default', '--reporter=./test/support/runner/slowest-reporter.ts'],
      ...['--reporter=json', `--outputFile.json=${report}`],
      ...extra,
    ]);
    return atLeastOneFailure(code, vitestCounts(report));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function vitestCounts(report) {
  try {
    const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, testResults } = JSON.parse(
      readFileSync(report, 'utf8'),
    );
    // A file that could not be loaded has failed without having a failed test.
    const brokenFiles = testResults.filter(
      ({ status, assertionResults }) =>
        status === 'failed' && !assertionResults.some((test) => test.status === 'failed'),
    );
    return {
      passed: numPassedTests,
      failed: numFailedTests + brokenFiles.length,
      skipped: numPendingTests + numTodoTests,
      failures: [
        ...testResults.flatMap(failedTests),
        ...brokenFiles.map(({ name, message }) => failure(name, message)),
      ],
    };
  } catch {
    return NOTHING;
  }
}

const failedTests = ({ name: file, assertionResults }) =>
  assertionResults
    .filter(({ status }) => status === 'failed')
    .map(({ fullName, failureMessages }) => failure(`${file} > ${fullName}`, failureMessages.join('\n')));

/** What fails outside of any test (a server that did not start, an unhandled rejection) counts as one. */
const atLeastOneFailure = (code, counts) =>
  code !== 0 && counts.failed === 0
    ? { ...counts, failed: 1, failures: [failure('outside of any test', `the suite ended with exit code ${code}`)] }
    : counts;

async function goTests(directory) {
  let counts = NOTHING;
  let rest = '';
  const onLine = (line) => {
    const event = JSON.parse(line);
    if (event.Action === 'output' && /^(---|\s+---|FAIL|panic|ok|#|\s+\S+\.go:\d+)/.test(event.Output)) {
      process.stdout.write(event.Output);
    }
    if (event.Action === 'build-output') process.stdout.write(event.Output);
    const kind = { pass: 'passed', fail: 'failed', skip: 'skipped' }[event.Action];
    if (event.Test === undefined || kind === undefined) return;
    const failures = kind === 'failed' ? [failure(`${event.Package} > ${event.Test}`, '')] : [];
    counts = add(counts, { ...NOTHING, [kind]: 1, failures });
  };
  const code = await foreground(['go', 'test', '-json', './...'], {
    cwd: join(projectRoot, directory),
    onStdout: (text) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) if (line.startsWith('{')) onLine(line);
    },
  });
  return atLeastOneFailure(code, counts);
}

/** Types, lint and import rules: one suite, that holds or does not. */
async function checks() {
  let text = '';
  const onStdout = (piece) => {
    text += piece;
  };
  const code = await foreground(['npm', 'run', '--silent', 'check'], { onStdout });
  process.stdout.write(`Types, lint, import rules: ${code === 0 ? 'hold' : 'do not hold'}\n${text}`);
  if (code === 0) return { ...NOTHING, passed: 1 };
  return { ...NOTHING, failed: 1, failures: [failure('types, lint, import rules', text)] };
}

/** Starts the suites that are asked for, all at once. @returns the counts of each */
function start(words) {
  const isQuick = words.includes('--quick');
  const given = words.filter((word) => word !== '--quick');
  const lane = ({ kinds, files }) => [`--maxWorkers=${files}`, ...kinds.flatMap((kind) => ['--project', kind])];
  if (isQuick) return Promise.all([vitest([...lane(QUICK), ...given]), checks()]);
  if (given.length > 0) return Promise.all([vitest(given)]);
  return Promise.all([...LANES.map((each) => vitest(lane(each))), checks(), goTests(join('guest', 'agent'))]);
}

const began = Date.now();
await setUpOrExit({ forTests: true });
const total = (await start(process.argv.slice(2))).reduce(add, NOTHING);
for (const text of total.failures) process.stdout.write(`\nFailed: ${text}\n`);
process.stdout.write(`All suites: ${Math.round((Date.now() - began) / 1000)} s\n`);
const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : '';
process.stdout.write(`${total.passed} passed, ${total.failed} failed${skipped}\n`);
process.exitCode = total.failed > 0 || total.passed === 0 ? 1 : 0;
