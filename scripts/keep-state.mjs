/**
 * `npm run keep-state -- NAME`: what a run of this checkout leaves on a machine and in the store, kept in
 * `test/fixtures/state/NAME`, so that later code is tested against it. Needs a set-up checkout and no network.
 *
 * A stack over the fake driver runs through: workloads stopped, failed, waiting, and two that run; sessions closed,
 * deleted and with a run (where there are sessions); a deployment, uploaded sources, a drained host, recorded histories.
 * Then the store falls silent, a service writes three lines more, the run ends and its VM comes to rest, and the host
 * worker is killed: the next version of Kiln finds exactly this state.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { keepFolder, keepObjects, untilStored, withPlaceholders, write } from './keep-state/kept-files.mjs';
import {
  beginLateRun,
  ENDED_SESSIONS,
  endLateRun,
  endSessions,
  hasSessions,
  sessionViews,
} from './keep-state/kept-sessions.mjs';
import { freeze, killAll, killHost, startStack, until, untilStage, vmProcesses } from './keep-state/kept-stack.mjs';
import { projectRoot } from './setup/places.mjs';

/** Writes a line for each request, so that lines can be produced on demand. */
const CHATTY = {
  'package.json': JSON.stringify({
    name: 'chatty',
    version: '1.0.0',
    private: true,
    scripts: { start: 'node server.js' },
  }),
  'server.js': `require('node:http').createServer((request, response) => {
  console.log('asked for ' + request.url);
  response.end('ok');
}).listen(process.env.PORT);
`,
};
const OVER = ['stopped-1', 'failed-1'];
const UNSHIPPED = ['/unshipped-1', '/unshipped-2', '/unshipped-3'];

const [name] = process.argv.slice(2);
if (!/^[a-z0-9][a-z0-9.-]*$/.test(name ?? '')) throw new Error('Name the fixture: npm run keep-state -- NAME');
const to = join(projectRoot, 'test', 'fixtures', 'state', name);
// Short: sockets lie below it.
const directory = mkdtempSync(join(tmpdir(), 'kks-'));
let stack;
process.once('SIGINT', () => cleanUp()).once('SIGTERM', () => cleanUp());
try {
  stack = await startStack(directory);
  const left = await runThrough(stack);
  rmSync(to, { recursive: true, force: true });
  await keep(stack, left);
} finally {
  cleanUp();
}

function cleanUp() {
  if (stack !== undefined) {
    killHostQuietly();
    killAll(stack);
    stack = undefined;
  }
  rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
}

/** @returns the workloads that run, and the run that has begun, where there are sessions */
async function runThrough(stack) {
  const { api, info } = stack;
  const withSessions = await hasSessions(stack);
  await api('POST', '/api/deployments', {
    id: 'd-1',
    projectId: 'project-1',
    serviceName: 'chatty',
    servicePath: 'chatty',
  });
  const { sha256 } = await api('POST', '/api/sources', chattyTar());
  const create = (id, body) => api('POST', '/api/workloads', { id, ...body });
  await create('stopped-1', { servicePath: 'plain', env: { GREETING: 'hello' } });
  await untilStage(stack, 'stopped-1', 'running');
  progress('stopping stopped-1');
  await api('POST', '/api/workloads/stopped-1/stop', {});
  await untilStage(stack, 'stopped-1', 'stopped');
  progress('failed-1');
  await create('failed-1', { servicePath: 'exits' });
  await untilStage(stack, 'failed-1', 'failed');
  const source = { servicePath: '.', source: { sha256 }, deploymentId: 'd-1', projectId: 'project-1' };
  await create('running-1', { ...source, priority: 2 });
  await untilStage(stack, 'running-1', 'running');
  progress('running-1 runs; over-1');
  await create('over-1', { servicePath: 'plain' });
  await untilStage(stack, 'over-1', 'running');
  let lateRun;
  if (withSessions) {
    progress('over-1 runs; sessions');
    await endSessions(stack);
    lateRun = await beginLateRun(stack);
  }
  progress('waiting-1');
  await create('waiting-1', { servicePath: 'plain', resources: { vcpus: 2 } });
  await until(async () => (await api('GET', '/api/workloads/waiting-1')).waiting?.reason);
  progress('waiting-1 waits; recording');
  await api('POST', `/api/hosts/${info.hostId}/drain`, { draining: true });
  // The index of closed workloads follows with a delay: the recorder may find none at first.
  const ended = OVER.length + (withSessions ? ENDED_SESSIONS : 0);
  await until(async () => (await api('POST', '/api/archive/record', {})).report?.recorded.seen >= ended);
  return { live: ['running-1', 'over-1'], lateRun };
}

async function keep(stack, { live, lateRun }) {
  const { info, home, hostDir, runtimeDir, api } = stack;
  const { url } = await api('GET', '/api/workloads/running-1');
  const views = {};
  for (const id of [...OVER, ...live, 'waiting-1']) {
    views[id] = await api('GET', `/api/workloads/${id}`);
  }
  const sessions = lateRun && (await sessionViews(stack));
  const identity = JSON.parse(readFileSync(join(home, 'identity.json'), 'utf8'));
  const credentials = { accessKeyId: identity.s3AccessKey, secretAccessKey: identity.s3SecretKey };
  if (lateRun) await untilStored(info.s3, credentials, lateRun.vmId, lateRun.text);
  const objects = await keepObjects(info.s3, credentials, join(to, 'store'));
  progress(`${objects.length} objects kept; the store falls silent`);
  freeze(stack, 's3');
  for (const path of UNSHIPPED) await fetch(url + path);
  await until(() => readSpools(hostDir).includes(UNSHIPPED.at(-1)));
  const atRest = lateRun && (await endLateRun(stack, lateRun));
  const vms = vmProcesses(stack).filter(({ argv }) => argv[0] === 'unshare');
  killHostQuietly();
  const setup = JSON.parse(readFileSync(join(projectRoot, 'node_modules', '.kiln-setup.json'), 'utf8'));
  const placeholders = { HOST: hostDir, HOME: home, RUN: runtimeDir, AGENT: setup.agent.path, CHECKOUT: projectRoot };
  const leftOut = keepFolder(hostDir, join(to, 'host'), placeholders);
  const kept = { hostId: info.hostId, objects, leftOut, vms, views, sessions, atRest };
  write(join(to, 'kept.json'), `${withPlaceholders(JSON.stringify(kept, null, 1), placeholders)}\n`);
}

function progress(text) {
  process.stderr.write(`keep-state: ${text}\n`);
}

function readSpools(hostDir) {
  return readdirSync(join(hostDir, 'logs'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'utf8'))
    .join('\n');
}

function killHostQuietly() {
  try {
    killHost(stack);
  } catch {
    // Killed before.
  }
}

function chattyTar() {
  const folder = join(directory, 'chatty');
  for (const [file, text] of Object.entries(CHATTY)) write(join(folder, file), text);
  return execFileSync('tar', [
    '--create',
    '--format=ustar',
    '--owner=0',
    '--group=0',
    '-C',
    folder,
    ...Object.keys(CHATTY),
  ]);
}
