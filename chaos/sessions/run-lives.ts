/** Several lives on one Kiln of real processes, each a neighbour to the others. */
import { setTimeout as delay } from 'node:timers/promises';
import { inspect } from 'node:util';
import { createKilnClient } from '../../client/http/kiln-client.ts';
import { createKeyedLock } from '../../concurrency/keyed-lock.ts';
import type { SessionPolicyOverrides } from '../../domain/policies.ts';
import type { Servers } from '../../test/support/servers/servers.global.ts';
import { GATEWAY_TOKEN, startGatedGateway } from '../../test/support/workers/gated-gateway.ts';
import { FAST_SESSIONS } from '../../test/support/workers/kiln-harness.ts';
import { PortGates } from '../../test/support/workers/port-gates.ts';
import { ProcessStack } from '../../test/support/workers/process-stack.ts';
import { silentLogger } from '../../test/support/workers/silent-logger.ts';
import { createInstanceStore } from '../../vmm/instance-record.ts';
import { SeededRandom } from '../random.ts';
import { type Disturbance, lifeOf, type Step } from './life.ts';
import { SessionLife } from './session-life.ts';

export interface LivesOptions {
  readonly servers: Servers;
  readonly guests: 'fake' | 'qemu';
  /** A life may take no longer, and nothing may be left this long after the last has ended, ms. */
  readonly lifeMs: number;
  readonly settleMs: number;
  /** Default: `lifeOf`. */
  readonly steps?: (random: SeededRandom) => readonly Step[];
  /** Told with each finding as it comes. */
  readonly say?: (line: string) => void;
}

export interface LivesResult {
  readonly wrong: readonly string[];
  /** How often each thing was done or seen. */
  readonly counts: Readonly<Record<string, number>>;
}

/** Long enough for a worker that is killed and started again on a busy machine. */
const LOST_AFTER_MS = 10_000;
const LEASES = { leaseMs: 4_000, lookMs: 500, askMs: 500 };
const POLICIES: SessionPolicyOverrides = {
  ...FAST_SESSIONS,
  placement: { ...FAST_SESSIONS.placement, deadlineMs: 180_000 },
  host: {
    ...FAST_SESSIONS.host,
    lostAfterMs: LOST_AFTER_MS,
    // Every look at a silent host takes a second on a dev server, and they are counted.
    recheckMs: 1_000,
    movesAfter: { scheduleToStartMs: 500, silentMs: 1_500 },
    leasesMs: 5_500,
  },
};

/** @param seeds one for each life */
export async function runLives(seeds: readonly number[], options: LivesOptions): Promise<LivesResult> {
  const { servers, guests } = options;
  const stack = await ProcessStack.start({ ...servers, guests, leases: LEASES });
  const { connection, store, temporal } = stack;
  const gates = new PortGates(() => ({}));
  const { namespace } = temporal.options;
  const wrong: string[] = [];
  // Of what it cannot explain to its callers.
  const error = (told: object, text: string) => {
    if ('code' in told && told.code === 'INTERNAL') wrong.push(`gateway: ${text} ${inspect(told)}`);
  };
  const log = { ...silentLogger, error };
  const place = { connection, namespace, store, guests, policies: POLICIES, log };
  const gateway = await startGatedGateway(place, gates);
  const run = new LivesRun(stack, gateway.url, options);
  try {
    const lived = await run.all(seeds);
    return { ...lived, wrong: [...lived.wrong, ...wrong] };
  } finally {
    await gateway.close();
    await stack.close();
  }
}

class LivesRun {
  private readonly stack: ProcessStack;
  private readonly options: LivesOptions;
  private readonly api: ReturnType<typeof createKilnClient>;
  private readonly wrong: string[] = [];
  private readonly counts = new Map<string, number>();
  private readonly lives: SessionLife[] = [];
  /** One thing happens to the Kiln at a time. */
  private readonly line = createKeyedLock();

  constructor(stack: ProcessStack, apiUrl: string, options: LivesOptions) {
    this.stack = stack;
    this.options = options;
    this.api = createKilnClient({ apiUrl, token: GATEWAY_TOKEN });
  }

  async all(seeds: readonly number[]): Promise<LivesResult> {
    await Promise.all(seeds.map((seed) => this.one(seed)));
    await this.nothingLeft();
    await this.stack.judge().catch((error: unknown) => this.report(String(error)));
    return { wrong: this.wrong, counts: Object.fromEntries([...this.counts].sort()) };
  }

  private report(line: string): void {
    this.options.say?.(line);
    this.wrong.push(line);
  }

  private async one(seed: number): Promise<void> {
    const random = new SeededRandom(seed);
    const steps = (this.options.steps ?? lifeOf)(random);
    const life = new SessionLife({
      api: this.api,
      thread: `life-${seed}`,
      random,
      disturb: (what) => this.line.run('', () => this.disturb(what)),
      killVm: (thread) => this.killVm(thread),
      count: (what) => this.counts.set(what, (this.counts.get(what) ?? 0) + 1),
      wrong: (line) => this.report(`seed ${seed}: ${line}`),
    });
    this.lives.push(life);
    const tooLong = new AbortController();
    const limit = delay(this.options.lifeMs, undefined, { signal: tooLong.signal }).then(
      async () => this.report(`seed ${seed} is stuck: ${await this.standing(`life-${seed}`)}`),
      () => undefined,
    );
    const lived = life.live(steps).catch(async (error: unknown) => {
      this.report(`seed ${seed}: ${error instanceof Error ? error.stack : String(error)}`);
      await life.abandon();
    });
    await Promise.race([lived, limit]);
    tooLong.abort();
  }

  private async standing(thread: string): Promise<string> {
    const view = await this.api.getSession({ params: { thread }, query: {} }).catch(() => undefined);
    if (view === undefined) return 'nobody can tell';
    const { tier, running, waiting, events } = view;
    return JSON.stringify({ tier, running, waiting, events: events.slice(-8) });
  }

  private async disturb(what: Disturbance): Promise<void> {
    const { servers } = this.options;
    if (what.kind === 'kill-worker') await this.stack.replaceWorker(what.role);
    else if (what.kind === 'lose-machine') {
      for (const life of this.lives) life.harmed();
      await this.stack.loseMachine();
      // Until the last of its VMs was gone.
      for (const life of this.lives) life.harmed();
    } else if (what.kind === 'stall') {
      const pid = servers.pids[what.server];
      if (pid === undefined) return;
      process.kill(pid, 'SIGSTOP');
      await delay(what.forMs);
      process.kill(pid, 'SIGCONT');
    } else {
      await servers.kill(what.server);
      await delay(what.awayMs);
      servers.startAgain(what.server);
    }
  }

  private async killVm(thread: string): Promise<boolean> {
    const { vmId } = await this.api.getSession({ params: { thread }, query: {} }).catch(() => ({ vmId: undefined }));
    if (vmId === undefined) return false;
    const record = await createInstanceStore(this.stack.stateDir).read(vmId);
    if (record?.process === undefined) return false;
    try {
      process.kill(record.process.pid, 'SIGKILL');
      return true;
    } catch {
      return false;
    }
  }

  private async nothingLeft(): Promise<void> {
    const left = await this.stack.leftAfter(this.options.settleMs);
    if (left.length > 0) this.report(`left: ${left.join('; ')}`);
  }
}
