/**
 * `kiln doctor`: checks everything that Kiln needs on this machine, names missing or wrong parts and their fix. Needs
 * no set-up. Exit code 0 where nothing is wrong.
 */
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import * as look from './doctor/probes.mjs';
import { verdicts } from './doctor/verdicts.mjs';
import { debianPackages } from './setup/debian-packages.mjs';
import { s3Server, temporalCli } from './setup/go-tools.mjs';
import { guestAgent } from './setup/guest-agent.mjs';
import { nodeImage } from './setup/guest-image.mjs';
import { npmPackages } from './setup/npm-packages.mjs';
import { cacheDirectory } from './setup/places.mjs';
import { tscProbe } from './setup/tsc-probe.mjs';

const LIMIT_MS = 10_000;
const GIB = 1024 ** 3;
const PARTS = { debianPackages, npmPackages, temporalCli, s3Server, tscProbe, guestAgent, nodeImage };

const program = async (name, argv, wanted, fix) =>
  verdicts.program({ name, wanted, fix, ...(await look.ask(argv, LIMIT_MS)) });

async function part(step) {
  const ready = step.ready().then(
    (state) => ({ text: state?.text }),
    (error) => ({ error: error.message }),
  );
  return verdicts.part(await look.within(ready, LIMIT_MS, { error: 'its state could not be found out in time' }));
}

const registry = async (name, argv, fix) => verdicts.registry({ name, fix, ...(await look.ask(argv, LIMIT_MS)) });

function tcp(address) {
  if (address === undefined) return {};
  const at = address.lastIndexOf(':');
  return new Promise((done) => {
    const socket = connect({ host: address.slice(0, at), port: Number(address.slice(at + 1)) || 0, timeout: LIMIT_MS });
    const end = (error) => {
      socket.destroy();
      done({ address, ...(error === undefined ? {} : { error }) });
    };
    socket.once('connect', () => end());
    socket.once('timeout', () => end('no answer'));
    socket.once('error', (error) => end(error.code ?? error.message));
  });
}

/** The settings are read with TypeScript and packages, which are not there before set-up. */
async function privateNames(text) {
  if (!text) return {};
  const settings = await import('../config/environment.ts').catch(() => undefined);
  if (settings === undefined) return { text };
  try {
    return { text, entries: settings.readEnvironment({ KILN_EGRESS_PRIVATE: text }).KILN_EGRESS_PRIVATE };
  } catch (error) {
    return { text, error: error.message };
  }
}

/** Checks by name; all run at once. */
async function checks(env) {
  const home = look.homeOf(env);
  const uid = process.getuid();
  const stack = await look.stack(home, LIMIT_MS);
  const stackRuns = stack.pidAlive === true;
  const temporal = env.TEMPORAL_ADDRESS || (stackRuns ? stack.devJson.temporal?.address : undefined);
  const s3 = env.KILN_S3_ENDPOINT || (stackRuns ? stack.devJson.s3?.endpoint : undefined);
  const s3Answer = s3 === undefined ? {} : await look.answer(s3, LIMIT_MS);
  const apt = 'sudo apt-get install -y --no-install-recommends';
  return {
    Node: verdicts.node({ version: process.version }),
    Go: program('go', ['go', 'version'], [1, 26, 4], 'install Go 1.26.4 or newer and put it on PATH'),
    QEMU: program('qemu-system-x86_64', ['qemu-system-x86_64', '--version'], [7, 2, 0], `${apt} qemu-system-x86`),
    'qemu-img': program('qemu-img', ['qemu-img', '--version'], [7, 2, 0], `${apt} qemu-utils`),
    ...Object.fromEntries(Object.values(PARTS).map((step) => [step.name, part(step)])),
    KVM: verdicts.kvm(look.kvm()),
    'user namespaces': look
      .ask(['unshare', '--user', '--map-root-user', 'true'], LIMIT_MS)
      .then(({ code }) => verdicts.userNamespaces({ isRoot: uid === 0, works: code === 0 })),
    'space for tools and images': verdicts.diskSpace(look.diskSpace(cacheDirectory(), 3 * GIB)),
    'space for the stack': verdicts.diskSpace(look.diskSpace(home, 2 * GIB)),
    'cache folder': verdicts.writable(look.writable(cacheDirectory())),
    'state folder': verdicts.writable(look.writable(home)),
    'sockets folder': verdicts.runtimeDir(look.runtimeDir(home, env, uid)),
    memory: verdicts.memory(look.availableMemory()),
    stack: verdicts.stack(stack),
    'left processes': verdicts.leftProcesses({ left: look.markedProcesses(home), stackRuns, home }),
    'Temporal server': Promise.resolve(tcp(temporal)).then(verdicts.reachable),
    'S3 server': verdicts.reachable({ address: s3, error: s3Answer.error }),
    clock: verdicts.clock({ skewMs: s3Answer.skewMs, against: 'the S3 server' }),
    'API port': look
      .portBusy(Number(env.KILN_API_PORT || 4800))
      .then((busy) => verdicts.port({ port: Number(env.KILN_API_PORT || 4800), busy, stackRuns })),
    'private egress': privateNames(env.KILN_EGRESS_PRIVATE).then(verdicts.privateNames),
    'npm registry': registry('npm ping', ['npm', 'ping'], 'npm config get registry; npm config get proxy'),
  };
}

const MARKS = { ok: '✓', note: '·', wrong: '✗' };

/** @returns exit code */
export async function doctor(args, env = process.env, write = (text) => process.stdout.write(text)) {
  const unknown = args.find((word) => word !== '--json');
  if (unknown !== undefined) {
    process.stderr.write(`kiln: USAGE: ${unknown} is no option of doctor; --json is\n`);
    return 2;
  }
  const found = await checks(env);
  const list = await Promise.all(Object.entries(found).map(async ([name, verdict]) => ({ name, ...(await verdict) })));
  const healthy = list.every(({ state }) => state !== 'wrong');
  if (args.includes('--json')) write(`${JSON.stringify({ ok: healthy, checks: list })}\n`);
  else {
    for (const { name, state, found: what, fix } of list) {
      write(`${MARKS[state]} ${name.padEnd(27)} ${what}\n`);
      if (fix !== undefined && state !== 'ok') write(`    fix: ${fix}\n`);
    }
  }
  return healthy ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await doctor(process.argv.slice(2));
