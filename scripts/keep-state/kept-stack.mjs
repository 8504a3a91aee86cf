/**
 * A stack of this checkout over the fake driver, used only through the command line and REST. So the same
 * program also stores the state of an older checkout, whatever its file names are.
 */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { pinnedNode, projectRoot } from '../setup/places.mjs';

const POLL_MS = 50;
/** Room for two services of one vCPU each; a third that wants two has to wait. */
const HOST_VCPUS = '3';

/** @returns a stack that answers. Its home and its sockets lie below `directory`. */
export async function startStack(directory) {
  const home = join(directory, 'home');
  const runtimeDir = join(directory, 'run');
  const child = spawn(pinnedNode(), [join(projectRoot, 'scripts', 'kiln.mjs'), 'dev', '--json'], {
    cwd: projectRoot,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      ...process.env,
      KILN_HOME: home,
      KILN_RUNTIME_DIR: runtimeDir,
      KILN_PROJECT_ROOT: join(projectRoot, 'test', 'fixtures', 'services'),
      KILN_DRIVER: 'fake',
      KILN_ALLOW_FAKE_DRIVER: '1',
      KILN_HOST_VCPUS: HOST_VCPUS,
    },
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const info = JSON.parse(line);
    return { home, runtimeDir, hostDir: join(home, 'host'), info, api: apiOf(info) };
  }
  throw new Error('kiln dev ended before it answered');
}

function apiOf({ apiUrl, token }) {
  return async (method, path, body) => {
    const isBytes = Buffer.isBuffer(body);
    const reply = await fetch(apiUrl + path, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { 'content-type': isBytes ? 'application/x-tar' : 'application/json' }),
      },
      ...(body === undefined ? {} : { body: isBytes ? body : JSON.stringify(body) }),
    });
    const answer = await reply.json();
    if (!reply.ok) throw new Error(`${method} ${path}: ${JSON.stringify(answer)}`);
    return answer;
  };
}

/** Waits until a question is answered with something. */
export async function until(ask) {
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    await delay(POLL_MS);
  }
}

/** @returns the workload once it is in that stage */
export function untilStage({ api }, id, stage) {
  return until(async () => {
    const workload = await api('GET', `/api/workloads/${id}`);
    if (workload.stage === stage) return workload;
    if (['failed', 'stopped'].includes(workload.stage)) throw new Error(`${id}: ${JSON.stringify(workload)}`);
    return undefined;
  });
}

/** Freezes a process of the stack; it does nothing more. */
export function freeze(stack, name) {
  process.kill(processesOf(stack)[name].pid, 'SIGSTOP');
}

/** Kills the supervisor and then a process of the stack, so that it is not started again. */
export function killHost(stack) {
  process.kill(stack.info.pid, 'SIGKILL');
  process.kill(processesOf(stack).host.pid, 'SIGKILL');
}

/** Kills all that is left: servers, workers, VMs. */
export function killAll(stack) {
  for (const { pid } of Object.values(processesOf(stack))) killQuietly(pid);
  for (const { pid } of vmProcesses(stack)) killQuietly(pid);
}

/** @returns processes whose command line names the sockets of this stack's VMs, and which of them are stopped by a signal */
export function vmProcesses({ runtimeDir }) {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const argv = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0').slice(0, -1);
      if (!argv.some((word) => word.includes(`${runtimeDir}/`))) return [];
      const [, state] = /\) (\S)/.exec(readFileSync(`/proc/${name}/stat`, 'utf8'));
      return [{ pid: Number(name), argv, ...(state === 'T' ? { isStopped: true } : {}) }];
    } catch {
      return [];
    }
  });
}

function processesOf({ home }) {
  return JSON.parse(readFileSync(join(home, 'processes.json'), 'utf8'));
}

function killQuietly(pid) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Gone already.
  }
}
