/**
 * Prepares a machine for Kiln: `npm run setup`. `npm start` and `npm test` begin with it.
 * Every part is cached by its inputs, so a second run only checks. Interrupt it at any point and run it again.
 */
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { debianPackages, debianPackagesForTests } from './setup/debian-packages.mjs';
import { s3Server, temporalCli } from './setup/go-tools.mjs';
import { guestAgent } from './setup/guest-agent.mjs';
import { nodeImage, pythonImage } from './setup/guest-image.mjs';
import { withLock } from './setup/lock.mjs';
import { makeSteps } from './setup/make-steps.mjs';
import { npmPackages } from './setup/npm-packages.mjs';
import { cacheDirectory, pinnedNode, projectRoot, setupRecordPath } from './setup/places.mjs';
import { say } from './setup/progress.mjs';
import { SetupError } from './setup/run.mjs';
import { schemathesis } from './setup/schemathesis.mjs';
import { tscProbe } from './setup/tsc-probe.mjs';

const STEPS = { debianPackages, npmPackages, tscProbe, guestAgent, nodeImage, temporalCli, s3Server };

/** What the tests need beyond that; a user builds it on demand: `kiln image build python`. */
const STEPS_FOR_TESTS = { ...STEPS, debianPackages: debianPackagesForTests, pythonImage, schemathesis };

/**
 * What each step waits for. One lane mostly waits for downloads, the other one compiles: in parallel they take
 * hardly longer than the longer one. Nothing runs beside apt: a failure ends the others, and dpkg must not be ended in
 * the middle; and nothing may be printed while sudo asks for a password.
 */
const AFTER = {
  npmPackages: ['debianPackages'],
  nodeImage: ['debianPackages', 'npmPackages', 'guestAgent'],
  pythonImage: ['nodeImage'],
  schemathesis: ['debianPackages'],
  tscProbe: ['debianPackages'],
  guestAgent: ['tscProbe'],
  temporalCli: ['guestAgent'],
  s3Server: ['temporalCli'],
};

/** @returns the state of every part, or undefined where one is missing. */
async function allReady(steps) {
  const states = {};
  for (const [name, step] of Object.entries(steps)) {
    states[name] = await step.ready();
    if (states[name] === undefined) return undefined;
  }
  return states;
}

/** Written for config/ and the tests, which do not know how the parts are made. */
async function writeSetupRecord({
  temporalCli: temporal,
  s3Server: s3,
  tscProbe: probe,
  guestAgent: agent,
  nodeImage: image,
}) {
  // What an earlier run for tests has made stays known.
  const tester = await schemathesis.ready();
  const record = {
    cacheDir: cacheDirectory(),
    nodePath: pinnedNode(),
    ...(temporal.path === undefined ? {} : { temporalPath: temporal.path }),
    ...(s3.path === undefined ? {} : { versitygwPath: s3.path }),
    tscProbePath: probe.path,
    ...(tester === undefined ? {} : { schemathesisPath: tester.path }),
    agent: { path: agent.path, key: agent.key },
    image: { name: 'node', digest: image.digest, directory: image.directory },
  };
  mkdirSync(join(projectRoot, 'node_modules'), { recursive: true });
  const temporary = `${setupRecordPath}.new-${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify(record, null, 2)}\n`);
  renameSync(temporary, setupRecordPath);
  return record;
}

/**
 * Sets up what is missing.
 * @param forTests also what only the tests need
 * @returns what was found or made: paths of servers, agent and image
 * @throws SetupError that names the fix where something cannot be set up
 */
export async function setUp({ forTests = false } = {}) {
  checkMachine();
  const began = Date.now();
  const waiting = () => say('Another set-up is running on this machine; waiting for it.');
  const steps = forTests ? STEPS_FOR_TESTS : STEPS;
  const make = () => makeSteps(steps, AFTER);
  const states = (await allReady(steps)) ?? (await withLock(join(cacheDirectory(), 'setup.lock'), waiting, make));
  const record = await writeSetupRecord(states);
  say(`Set-up complete (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  return record;
}

function checkMachine() {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new SetupError(`guests are built and run on Linux x86-64 only; this is ${process.platform} ${process.arch}`);
  }
}

/** As `setUp`, for programs: on failure says why and ends the process. */
export async function setUpOrExit(options) {
  try {
    return await setUp(options);
  } catch (error) {
    say(`Set-up stopped at ${error instanceof SetupError ? error.message : (error?.stack ?? error)}`);
    process.exit(1);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await setUpOrExit();
