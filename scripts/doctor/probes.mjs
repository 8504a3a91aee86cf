/** Probes this machine. Every probe has its own time limit, so the doctor never hangs on the fault it looks for. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

/** Runs a program. @returns its exit code (127 not there, 124 too slow) and both outputs */
export function ask(argv, limitMs) {
  return new Promise((done) => {
    let output = '';
    const child = spawn(argv[0], argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    const end = (code) => {
      clearTimeout(timer);
      done({ code, output });
    };
    const timer = setTimeout(() => {
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch {
        // It has just ended.
      }
      end(124);
    }, limitMs);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        output = (output + text).slice(0, 10_000);
      });
    }
    child.on('error', () => end(127));
    child.on('close', (code) => end(code ?? 1));
  });
}

/** @returns `value`, or `late` where it takes longer. */
export function within(value, limitMs, late) {
  let timer;
  const limit = new Promise((done) => {
    timer = setTimeout(() => done(late), limitMs);
  });
  return Promise.race([value, limit]).finally(() => clearTimeout(timer));
}

const messageOf = (error) => error.code ?? error.message;
const existing = (path) => (existsSync(path) ? path : existing(dirname(path)));

export function diskSpace(path, wantedBytes) {
  try {
    const { bavail, bsize } = statfsSync(existing(path));
    return { path, freeBytes: bavail * bsize, wantedBytes };
  } catch {
    return { path, wantedBytes };
  }
}

export function writable(path) {
  try {
    accessSync(existing(path), constants.W_OK | constants.X_OK);
    return { path };
  } catch (error) {
    return { path, error: messageOf(error) };
  }
}

export function availableMemory() {
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1];
  return { freeBytes: Number(kib ?? 0) * 1024 };
}

export function kvm(device = '/dev/kvm') {
  if (!existsSync(device)) return { exists: false, opens: false };
  try {
    closeSync(openSync(device, 'r+'));
    return { exists: true, opens: true };
  } catch {
    return { exists: true, opens: false };
  }
}

/** Where a stack on this home has its sockets: the same rule as in config/environment.ts. */
export function runtimeDir(home, env, uid) {
  const short = createHash('sha256').update(home).digest('hex').slice(0, 8);
  const usual =
    uid === 0
      ? `/run/kiln/${short}`
      : join(env.XDG_RUNTIME_DIR ?? tmpdir(), `kiln-${env.XDG_RUNTIME_DIR ? short : `${uid}-${short}`}`);
  const path = env.KILN_RUNTIME_DIR || usual;
  if (!existsSync(path)) return { path, exists: false, uid };
  const found = statSync(path);
  return { path, exists: true, ownerUid: found.uid, mode: found.mode, uid };
}

/** @returns the content of a home's dev.json, and whether it is true. */
export async function stack(home, limitMs) {
  const path = join(home, 'dev.json');
  if (!existsSync(path)) return { home };
  let devJson;
  try {
    devJson = JSON.parse(readFileSync(path, 'utf8'));
    if (!Number.isInteger(devJson.pid) || typeof devJson.apiUrl !== 'string')
      throw new Error('it says nothing of a stack');
  } catch (error) {
    return { home, error: messageOf(error) };
  }
  const pidAlive = existsSync(`/proc/${devJson.pid}`);
  return {
    home,
    devJson,
    pidAlive,
    apiAnswers: pidAlive && (await answer(`${devJson.apiUrl}/healthz`, limitMs)).error === undefined,
  };
}

/** @returns processes of a stack on this home, by the mark that its supervisor gives them. */
export function markedProcesses(home) {
  const found = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    let environment;
    try {
      environment = readFileSync(`/proc/${pid}/environ`, 'latin1');
    } catch {
      // Another user's, or over.
      continue;
    }
    const name = environment
      .split('\0')
      .find((entry) => entry.startsWith('KILN_STACK_PROCESS=') && entry.endsWith(`@${home}`));
    if (name !== undefined)
      found.push({ name: name.slice('KILN_STACK_PROCESS='.length, -home.length - 1), pid: Number(pid) });
  }
  return found;
}

/** Any answer over HTTP proves that a server is there. @returns also how far its clock is from ours, ms */
export async function answer(url, limitMs) {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(limitMs) });
    const date = Date.parse(response.headers.get('date') ?? '');
    return Number.isNaN(date) ? {} : { skewMs: date - Date.now() };
  } catch (error) {
    return { error: messageOf(error.cause ?? error) };
  }
}

export function portBusy(port) {
  return new Promise((done) => {
    const server = createServer();
    server.once('error', () => done(true));
    server.listen(port, '127.0.0.1', () => server.close(() => done(false)));
  });
}

export const homeOf = (env) => resolve(env.KILN_HOME || '.kiln');
