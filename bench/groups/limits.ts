import { execFile, spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readEnvironment } from '../../config/environment.ts';
import type { AgentChannel } from '../../ports/guest-agent.ts';
import { openLimits } from '../../vmm/limits/open-limits.ts';
import type { VmLimits } from '../../vmm/limits/vm-limits.ts';
import type { Measurement } from '../figure.ts';
import type { GroupOptions } from '../group-options.ts';
import { type Bed, disks, prepareBed, specOf } from '../vm-bed.ts';

const BOOT_DEADLINE_MS = 120_000;
/** How long the guest counts for one sample. */
const COUNT_S = 3;
const NEIGHBOUR = 'neighbour';

/** Counts by itself, in its own time, how often it gets round a small loop. */
const COUNT_SCRIPT = `
  const until = performance.now() + ${COUNT_S * 1000};
  let rounds = 0;
  while (performance.now() < until) { for (let i = 0; i < 1000; i++) Math.sqrt(i); rounds++; }
  console.log(rounds);
`;
const COUNT = `node -e "${COUNT_SCRIPT}"`;

/** Each goes on until its VM is taken away. */
const HOGS: Readonly<Record<string, string>> = {
  cpu: 'while :; do :; done',
  memory: 'while :; do node -e "const all = []; for (;;) all.push(Buffer.alloc(8 << 20, 1))"; done',
  forks: 'bomb() { bomb | bomb & }; while :; do bomb; sleep 1; done',
  disk: 'while :; do dd if=/dev/zero of=/workspace/fill bs=1M; rm -f /workspace/fill; done',
};

/**
 * The rate of a guest beside one that takes all it can, each in a VM of one vCPU with its control group, against its rate
 * alone in the same minute. A ratio of 1.2 means that the neighbour costs it a sixth of its rate.
 */
export async function measureLimits(options: GroupOptions): Promise<readonly Measurement[]> {
  const { n, say, directory, signal } = options;
  const limits = await machineLimits(join(directory, 'state'), say);
  const bed = await prepareBed(directory, limits);
  try {
    const neighbour = await boot(bed, NEIGHBOUR, signal);
    const measurements: Measurement[] = [await plainProcesses(options)];
    for (const [name, script] of Object.entries(HOGS)) {
      const alone: number[] = [];
      const beside: number[] = [];
      for (let sample = 0; sample < n; sample += 1) {
        alone.push(await rate(neighbour));
        const vmId = `${name}-${sample}`;
        const hog = await boot(bed, vmId, signal);
        const argv = ['sh', '-c', script];
        const exec = await hog.exec({ execId: 'hog', argv, cwd: '/', output: 'ring' });
        exec.exit.catch(() => undefined);
        beside.push(await rate(neighbour));
        await bed.driver.destroy(vmId);
        say(`limits, ${name}: ${sample + 1} of ${n}`);
      }
      const words = `the same guest alone (control groups: ${limits.kind})`;
      measurements.push({ name: `limits-${name}`, unit: 'rounds/s', kiln: beside, rival: { words, samples: alone } });
    }
    return measurements;
  } finally {
    for (const vmId of await bed.driver.list()) await bed.driver.destroy(vmId);
  }
}

/**
 * What two cores of this machine cost each other when both are busy, without any VM: the same loop in a plain process
 * beside another one. No limit of Kiln's can make a guest's figure better than this.
 */
async function plainProcesses({ n, say, signal }: GroupOptions): Promise<Measurement> {
  const alone: number[] = [];
  const beside: number[] = [];
  for (let sample = 0; sample < n; sample += 1) {
    alone.push(await plainRate(signal));
    const hog = spawn('sh', ['-c', HOGS['cpu'] ?? ''], { stdio: 'ignore', signal });
    hog.on('error', () => undefined);
    try {
      beside.push(await plainRate(signal));
    } finally {
      hog.kill('SIGKILL');
    }
  }
  say('limits: plain processes');
  const words = 'the same process alone';
  return { name: 'plain-process-beside-another', unit: 'rounds/s', kiln: beside, rival: { words, samples: alone } };
}

async function plainRate(signal: AbortSignal): Promise<number> {
  const { stdout } = await promisify(execFile)(process.execPath, ['-e', COUNT_SCRIPT], { signal });
  return countedRate(stdout);
}

async function machineLimits(stateDir: string, say: (line: string) => void): Promise<VmLimits> {
  const log = { info: () => undefined, warn: (_: object, message: string) => say(message) };
  const parent = readEnvironment().KILN_CGROUP_PARENT;
  const options = { stateDir, log, mode: 'auto' as const };
  const own = await openLimits(parent === undefined ? options : { ...options, parent });
  return own.kind === 'none' ? openLimits({ ...options, parent: 'cgroup1' }) : own;
}

async function boot(bed: Bed, vmId: string, signal: AbortSignal): Promise<AgentChannel> {
  await bed.driver.prepare(specOf(bed.image, vmId, await disks(bed, vmId)));
  const identity = {
    hostname: vmId,
    seedHex: randomBytes(32).toString('hex'),
    machineId: randomBytes(16).toString('hex'),
    wallClockMs: Date.now(),
  };
  return (await bed.driver.start(vmId, { identity, deadlineMs: BOOT_DEADLINE_MS, signal })).agent;
}

async function rate(agent: AgentChannel): Promise<number> {
  const argv = ['sh', '-c', COUNT];
  const exec = await agent.exec({ execId: randomUUID(), argv, cwd: '/', output: 'wait' });
  let text = '';
  for await (const piece of exec.output) if (piece.kind === 'data') text += piece.data.toString();
  return countedRate(text);
}

function countedRate(text: string): number {
  const rounds = Number(text.trim());
  if (!(rounds > 0)) throw new Error(`nothing was counted: ${text}`);
  return rounds / COUNT_S;
}
