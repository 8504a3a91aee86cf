/**
 * The real pool over VMs that are only counted, on a clock that the caller advances: hours of load take moments, and
 * every run is the same.
 */

import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { defined } from '../../../domain/defined.ts';
import { KilnError } from '../../../domain/failures.ts';
import { type GuestKind, guestKindKey } from '../../../domain/guest-kind.ts';
import { type PoolSettingOverrides, type PoolTemplate, resolvePoolSettings } from '../../../domain/pool/pool-policy.ts';
import type { PoolStatus } from '../../../domain/pool/pool-status.ts';
import { DEFAULT_HOST_SETTINGS } from '../../../host/host-settings.ts';
import type { ListedPoolVm, PooledVms, PoolTemplates } from '../../../host/pool/pool-ports.ts';
import { createVmPool, type VmPool, type WarmPool } from '../../../host/pool/vm-pool.ts';
import { silentLogger } from '../workers/silent-logger.ts';

export interface LoadRequest {
  readonly atMs: number;
  /** How long the workload uses its VM. */
  readonly holdMs: number;
  /** Stands for the image, size and project of the request. */
  readonly kind: string;
}

const rowSchema = z.tuple([z.number(), z.number(), z.string()]);

/** 500 requests in two hours, as agents make them: bursts, trickles, long pauses. Generated once from a seed. */
export function recordedBursts(): LoadRequest[] {
  const text = readFileSync(new URL('../../fixtures/pool/bursts.json', import.meta.url), 'utf8');
  return z
    .array(rowSchema)
    .parse(JSON.parse(text))
    .map(([atMs, holdMs, kind]) => ({ atMs, holdMs, kind }));
}

export const SIM_DIGEST = `sha256:${'a'.repeat(64)}`;

export function keyOfKind(kind: string): GuestKind {
  return { imageDigest: SIM_DIGEST, vcpus: 1, memMib: kind === 'b' ? 1024 : 512, projectId: `project-${kind}` };
}

/** Durations of a boot alone on a machine with two cores, and of a hand-over: rename, resume and configure a VM. */
export const SIM_COSTS = { cloneMs: 100, coldMs: 1500, freezeMs: 300, claimMs: 20, cores: 2 };

interface CountedVm {
  readonly key: GuestKind;
  readonly createdAtMs: number;
  readonly template?: PoolTemplate;
}

/** Pooled VMs in memory; `places` limits how many VMs the host holds in total. */
export class CountedVms implements PooledVms, PoolTemplates {
  readonly alive = new Map<string, CountedVm>();
  readonly claimed = new Map<string, string>();
  private readonly templates = new Map<string, PoolTemplate>();
  places = Number.POSITIVE_INFINITY;
  created = 0;
  destroyed = 0;
  templatesMade = 0;
  oldestClaimMs = 0;
  mostAlive = 0;
  /** Number of running workloads. */
  active = 0;
  private booting = 0;

  get held(): number {
    return this.alive.size + this.active;
  }

  async create(key: GuestKind, poolVmId: string, { from, signal }: { from: 'template' | 'cold'; signal: AbortSignal }) {
    if (this.held >= this.places) throw new KilnError('NO_CAPACITY', 'The host is full.');
    const template = from === 'template' ? await this.newest(key) : undefined;
    await this.boot(template === undefined ? SIM_COSTS.coldMs : SIM_COSTS.cloneMs);
    signal.throwIfAborted();
    this.created += 1;
    this.alive.set(poolVmId, { key, createdAtMs: Date.now(), ...(template && { template }) });
    this.mostAlive = Math.max(this.mostAlive, this.alive.size);
    return defined({ template });
  }

  /** Up to two boots run at full speed on two cores; more share them. */
  async boot(ms: number): Promise<void> {
    this.booting += 1;
    try {
      await sleep(ms * Math.max(1, this.booting / SIM_COSTS.cores));
    } finally {
      this.booting -= 1;
    }
  }

  async claim(poolVmId: string, { vmId }: { vmId: string }): Promise<boolean> {
    if (this.claimed.get(vmId) === poolVmId) return true;
    const vm = this.alive.get(poolVmId);
    if (vm === undefined) return false;
    this.oldestClaimMs = Math.max(this.oldestClaimMs, Date.now() - vm.createdAtMs);
    await sleep(SIM_COSTS.claimMs);
    this.alive.delete(poolVmId);
    this.claimed.set(vmId, poolVmId);
    return true;
  }

  async destroy(poolVmId: string): Promise<void> {
    if (this.alive.delete(poolVmId)) this.destroyed += 1;
  }

  async list(): Promise<readonly ListedPoolVm[]> {
    return [...this.alive].map(([poolVmId, vm]) => ({ poolVmId, ...vm, state: 'ready' as const }));
  }

  seed(key: GuestKind): void {
    this.templates.set(guestKindKey(key), { templateId: 't-0', createdAtMs: Date.now() });
  }

  async newest(key: GuestKind): Promise<PoolTemplate | undefined> {
    return this.templates.get(guestKindKey(key));
  }

  async refresh(key: GuestKind, { source }: { source?: string; signal: AbortSignal }): Promise<PoolTemplate> {
    if (source === undefined) await this.boot(SIM_COSTS.coldMs);
    else await this.destroy(source);
    await sleep(SIM_COSTS.freezeMs);
    this.templatesMade += 1;
    const template = { templateId: `t-${this.templatesMade}`, createdAtMs: Date.now() };
    this.templates.set(guestKindKey(key), template);
    return template;
  }
}

export interface SimulationOptions {
  readonly load: readonly LoadRequest[];
  readonly limits: PoolSettingOverrides;
  readonly warm?: readonly WarmPool[];
  readonly withTemplates?: boolean;
  /** Every kind that is requested has a template from the start, as on a host that has run for a while. */
  readonly seeded?: boolean;
  readonly claimWaitMs?: number;
  /** How many VMs fit on the host; absent: any number. */
  readonly places?: number;
  /** Step of the clock while something happens, ms; default 50. */
  readonly stepMs?: number;
  /** Advances the clock and runs everything that is due. */
  readonly advance: (ms: number) => Promise<void>;
}

export interface SimulationReport {
  readonly requests: number;
  readonly hits: number;
  readonly waits: number;
  readonly misses: number;
  /** From each request until a VM answers, ms, sorted. */
  readonly latenciesMs: readonly number[];
  readonly created: number;
  readonly destroyed: number;
  readonly templatesMade: number;
  readonly mostReady: number;
  readonly oldestClaimMs: number;
  readonly recycled: Readonly<Record<string, number>>;
  readonly left: PoolStatus;
}

const MAINTAIN_EVERY_MS = 60_000;
const STEP_MS = 50;

/** Runs a load through a pool, with a round of maintenance every minute, followed by three hours without requests. */
export async function simulate(options: SimulationOptions): Promise<SimulationReport> {
  const vms = new CountedVms();
  const pool = poolOver(vms, options);
  if (options.places !== undefined) vms.places = options.places;
  const latencies: number[] = [];
  const running: Promise<void>[] = [];
  const waiting = [...options.load];
  const end = (waiting.at(-1)?.atMs ?? 0) + 3 * 3_600_000;
  const begun = Date.now();
  if (options.seeded === true) for (const { kind } of options.load) vms.seed(keyOfKind(kind));
  await pool.start();
  for (let nowMs = 0, next = 0; nowMs < end; ) {
    if (nowMs >= next) {
      void pool.maintain();
      next += MAINTAIN_EVERY_MS;
    }
    for (let first = waiting[0]; first !== undefined && first.atMs <= nowMs; first = waiting[0]) {
      waiting.shift();
      running.push(serve(pool, vms, first, latencies));
    }
    const quiet = waiting.length === 0 || (waiting[0]?.atMs ?? 0) > nowMs + 10_000;
    const step = quiet ? Math.min(1000, next - nowMs) : (options.stepMs ?? STEP_MS);
    await options.advance(step);
    nowMs = Date.now() - begun;
  }
  await Promise.all(running);
  return reportOf(pool, vms, latencies);
}

function poolOver(
  vms: CountedVms,
  { limits, warm = [], withTemplates = true, claimWaitMs = DEFAULT_HOST_SETTINGS.pool.claimWaitMs }: SimulationOptions,
): VmPool {
  return createVmPool({
    hostId: 'h1',
    settings: resolvePoolSettings(limits),
    warm,
    vms,
    ...(withTemplates ? { templates: vms } : {}),
    resolveImage: async () => SIM_DIGEST,
    claimWaitMs,
    maxCreating: 2,
    blockedMs: 30_000,
    logger: silentLogger,
  });
}

async function serve(
  pool: VmPool,
  vms: CountedVms,
  { kind, atMs, holdMs }: LoadRequest,
  latencies: number[],
): Promise<void> {
  const begun = Date.now();
  const vmId = `vm-${atMs}-${latencies.length}`;
  const key = keyOfKind(kind);
  const owner = {
    workflowId: `workload/${vmId}`,
    firstExecutionId: 'e',
    namespaceId: 'n',
    epoch: 1,
    boot: 1,
    role: 'service' as const,
  };
  while (vms.held >= vms.places && (await pool.yieldToBoots())) {}
  vms.active += 1;
  setTimeout(() => {
    vms.active -= 1;
  }, holdMs);
  if (!(await pool.take(key, { vmId, owner }))) {
    await vms.boot((await vms.newest(key)) === undefined ? SIM_COSTS.coldMs : SIM_COSTS.cloneMs);
  }
  latencies.push(Date.now() - begun);
}

function reportOf(pool: VmPool, vms: CountedVms, latencies: number[]): SimulationReport {
  const left = pool.status();
  const { hits, waits, misses, recycled } = left.counters;
  return {
    requests: latencies.length,
    hits,
    waits,
    misses,
    latenciesMs: latencies.sort((a, b) => a - b),
    created: vms.created,
    destroyed: vms.destroyed,
    templatesMade: vms.templatesMade,
    mostReady: vms.mostAlive,
    oldestClaimMs: vms.oldestClaimMs,
    recycled,
    left,
  };
}

function sleep(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}
