/**
 * Rules of a pool: ready VMs of one image, size and project that wait for a workload. Pure: facts and the time in,
 * decisions out. A VM that was handed out belongs to its workload and never returns, so a pool holds only clean VMs.
 */
import { defined } from '../defined.ts';
import { KilnError } from '../failures.ts';

/** Names are those of the configuration; durations in ms. */
export interface PoolSettings {
  /** Number of ready VMs that a pool is filled to; 0: no pool. */
  readonly pool_size: number;
  /** Number of ready VMs that a pool may grow to when requests exceed it. */
  readonly max_pool_size: number;
  /** Number of ready VMs that stay even when nothing requests them. */
  readonly min_idle: number;
  /** How long a VM beyond `min_idle` may wait for a request. */
  readonly max_idle_time: number;
  /** Templates that new VMs are cloned from. */
  readonly snapshots: {
    readonly enabled: boolean;
    /** Age at which a template is renewed, once nothing else is going on. */
    readonly refresh_interval: number;
    /** Age at which a template, and what was cloned from it, is no longer used. */
    readonly max_age: number;
  };
  /** Uses of one VM: a VM of a pool is used once, a VM of a session once per run. */
  readonly max_exec_count: number;
  /** Age at which a VM is no longer handed out or given another run. */
  readonly max_uptime: number;
}

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** Values that apply once a pool is switched on. */
export const DEFAULT_POOL_SETTINGS: PoolSettings = {
  pool_size: 3,
  max_pool_size: 10,
  min_idle: 2,
  max_idle_time: 5 * MINUTE,
  snapshots: { enabled: true, refresh_interval: 30 * MINUTE, max_age: 6 * HOUR },
  max_exec_count: 100,
  max_uptime: 24 * HOUR,
};

export type PoolSettingOverrides = Partial<Omit<PoolSettings, 'snapshots'>> & {
  readonly snapshots?: Partial<PoolSettings['snapshots']>;
};

/**
 * @returns the defaults, replaced by the overrides; a bound that was not given follows one that was
 * @throws CONFIG_INVALID where the given settings contradict each other
 */
export function resolvePoolSettings(given: PoolSettingOverrides = {}): PoolSettings {
  const d = DEFAULT_POOL_SETTINGS;
  const pool_size = given.pool_size ?? Math.min(d.pool_size, given.max_pool_size ?? d.pool_size);
  const settings: PoolSettings = {
    ...d,
    ...given,
    pool_size,
    max_pool_size: given.max_pool_size ?? Math.max(d.max_pool_size, pool_size),
    min_idle: given.min_idle ?? Math.min(d.min_idle, pool_size),
    snapshots: { ...d.snapshots, ...given.snapshots },
  };
  const { max_pool_size, min_idle, snapshots } = settings;
  if (pool_size > max_pool_size) throw contradiction('pool_size', 'max_pool_size', pool_size, max_pool_size);
  if (min_idle > pool_size) throw contradiction('min_idle', 'pool_size', min_idle, pool_size);
  if (snapshots.refresh_interval > snapshots.max_age) {
    const { refresh_interval, max_age } = snapshots;
    throw contradiction('snapshots.refresh_interval', 'snapshots.max_age', refresh_interval, max_age);
  }
  return settings;
}

function contradiction(less: string, more: string, lessValue: number, moreValue: number): KilnError {
  return new KilnError('CONFIG_INVALID', `Pool: ${less} (${lessValue}) must not be more than ${more} (${moreValue}).`);
}

export interface PoolVm {
  readonly poolVmId: string;
  /** Only a ready VM is idle: booted, paused, without an owner. */
  readonly state: 'creating' | 'ready' | 'claiming' | 'leaving';
  /** When it was booted or cloned. */
  readonly createdAtMs: number;
  readonly readySinceMs: number;
  readonly execCount: number;
  /** The template it was cloned from; absent: it booted cold. */
  readonly template?: PoolTemplate;
}

export interface PoolTemplate {
  readonly templateId: string;
  readonly createdAtMs: number;
}

/**
 * Why a pool exists: `standing`, the configuration names it; `asked`, there was a recent request; `superseded`, its tag
 * now names another image; `unused`, nothing needs it.
 */
export type PoolReason = 'standing' | 'asked' | 'superseded' | 'unused';

export interface PoolFacts {
  readonly nowMs: number;
  readonly settings: PoolSettings;
  readonly reason: PoolReason;
  readonly vms: readonly PoolVm[];
  /** Requests within the last `max_idle_time`. */
  readonly recentRequests: number;
  /** Those of them that found no ready VM. */
  readonly recentMisses: number;
  /** The newest template; absent: there is none. */
  readonly template?: PoolTemplate;
  readonly refreshing: boolean;
  /** A filling has begun and continues up to the target. */
  readonly filling: boolean;
  /** Until then the pool makes no VM: the host was full, or VMs did not boot. */
  readonly blockedUntilMs: number;
}

export const RECYCLE_CAUSES = [
  'exec-count',
  'uptime',
  'idle',
  'template-age',
  'template-replaced',
  'image-replaced',
  'unused',
  'excess',
  'gone',
  'failed',
  'capacity',
] as const;
/** Why a VM was destroyed unused. The last three causes are not decided here. */
export type RecycleCause = (typeof RECYCLE_CAUSES)[number];

export interface PoolDecision {
  readonly create: number;
  readonly from: 'template' | 'cold';
  readonly recycle: readonly { readonly poolVmId: string; readonly cause: RecycleCause }[];
  /** `source`: the idle VM that is frozen and so used up; absent: a VM is booted only for the template. */
  readonly refresh?: { readonly cause: 'missing' | 'interval' | 'age'; readonly source?: string };
}

/**
 * Decides what to do with a pool now. Between its low-water mark and its target it does nothing, so that changing
 * demand does not make and destroy VMs.
 */
export function decidePool(facts: PoolFacts): PoolDecision {
  const from = mayCloneFrom(facts.template, facts) ? 'template' : 'cold';
  const ready = facts.vms.filter(({ state }) => state === 'ready');
  const drain = drainCause(facts);
  if (drain !== undefined) {
    return { create: 0, from, recycle: ready.map(({ poolVmId }) => ({ poolVmId, cause: drain })) };
  }
  const worn = ready.flatMap((vm) => {
    const cause = wornBy(vm, facts);
    return cause === undefined ? [] : [{ poolVmId: vm.poolVmId, cause }];
  });
  const sound = byAge(ready.filter((vm) => wornBy(vm, facts) === undefined));
  const fresh = sound.filter((vm) => !isReplaced(vm, facts));
  const replaced = sound.filter((vm) => isReplaced(vm, facts));
  const recycle = [...worn, ...recycleIdle(fresh, facts), ...recycleReplaced(fresh, replaced, facts)];
  const refresh = decideRefresh(facts, sound);
  return {
    create: toCreate(facts, fresh.length, recycle.length),
    from,
    recycle: recycle.filter(({ poolVmId }) => poolVmId !== refresh?.source),
    ...defined({ refresh }),
  };
}

/** Number of ready VMs to fill up to: grows with requests that found none, and shrinks as those become old. */
export function poolTarget({ settings, recentMisses }: Pick<PoolFacts, 'settings' | 'recentMisses'>): number {
  return Math.min(settings.max_pool_size, settings.pool_size + recentMisses);
}

/** A pool with fewer ready VMs than this is filled up. */
export function lowWaterMark(facts: Pick<PoolFacts, 'settings' | 'recentMisses' | 'recentRequests'>): number {
  const { min_idle } = facts.settings;
  return facts.recentRequests > 0 ? Math.max(min_idle, Math.ceil(poolTarget(facts) / 2)) : min_idle;
}

function drainCause({ settings, reason }: PoolFacts): RecycleCause | undefined {
  if (settings.pool_size === 0 || reason === 'unused') return 'unused';
  return reason === 'superseded' ? 'image-replaced' : undefined;
}

/** Why a VM must not be handed out; undefined: it may be. */
export function wornBy(
  vm: Pick<PoolVm, 'createdAtMs' | 'execCount' | 'template'>,
  { nowMs, settings }: Pick<PoolFacts, 'nowMs' | 'settings'>,
): RecycleCause | undefined {
  if (vm.execCount >= settings.max_exec_count) return 'exec-count';
  if (nowMs - vm.createdAtMs >= settings.max_uptime) return 'uptime';
  if (vm.template === undefined) return undefined;
  return settings.snapshots.enabled && mayCloneFrom(vm.template, { nowMs, settings }) ? undefined : 'template-age';
}

function mayCloneFrom(
  template: PoolTemplate | undefined,
  { nowMs, settings: { snapshots } }: Pick<PoolFacts, 'nowMs' | 'settings'>,
): boolean {
  return template !== undefined && snapshots.enabled && nowMs - template.createdAtMs < snapshots.max_age;
}

/** A VM that booted cold is as good as a clone; a clone of an older template is not. */
function isReplaced(vm: PoolVm, { template }: PoolFacts): boolean {
  return vm.template !== undefined && template !== undefined && vm.template.templateId !== template.templateId;
}

/** Oldest first: the oldest are handed out first, so a VM that has waited long is not needed. */
function byAge(vms: readonly PoolVm[]): PoolVm[] {
  return [...vms].sort((a, b) => a.readySinceMs - b.readySinceMs || (a.poolVmId < b.poolVmId ? -1 : 1));
}

function recycleIdle(fresh: readonly PoolVm[], facts: PoolFacts): PoolDecision['recycle'] {
  const { nowMs, settings, recentRequests } = facts;
  const floor = recentRequests > 0 ? poolTarget(facts) : settings.min_idle;
  const idle = fresh.filter((vm) => nowMs - vm.readySinceMs >= settings.max_idle_time);
  const excess = Math.max(0, fresh.length - settings.max_pool_size);
  const surplus = Math.min(Math.max(0, fresh.length - floor), Math.max(idle.length, excess));
  return fresh.slice(0, surplus).map(({ poolVmId }, index) => ({
    poolVmId,
    cause: index < idle.length ? 'idle' : 'excess',
  }));
}

/** Clones of an older template serve until there are enough of the new one; if those have no room, the old ones go. */
function recycleReplaced(
  fresh: readonly PoolVm[],
  replaced: readonly PoolVm[],
  facts: PoolFacts,
): PoolDecision['recycle'] {
  const lack = Math.max(0, Math.max(1, lowWaterMark(facts)) - fresh.length);
  const room = Math.max(0, facts.settings.max_pool_size - fresh.length - replaced.length - making(facts));
  const leaving = lack === 0 ? replaced.length : Math.max(0, lack - making(facts) - room);
  return replaced.slice(0, leaving).map(({ poolVmId }) => ({ poolVmId, cause: 'template-replaced' }));
}

function making({ vms }: PoolFacts): number {
  return vms.filter(({ state }) => state === 'creating').length;
}

function toCreate(facts: PoolFacts, fresh: number, leaving: number): number {
  if (facts.nowMs < facts.blockedUntilMs) return 0;
  const coming = fresh + making(facts);
  if (!facts.filling && coming >= lowWaterMark(facts)) return 0;
  const held = facts.vms.filter(({ state }) => state === 'ready' || state === 'creating').length - leaving;
  return Math.max(0, Math.min(poolTarget(facts) - coming, facts.settings.max_pool_size - held));
}

function decideRefresh(facts: PoolFacts, sound: readonly PoolVm[]): PoolDecision['refresh'] {
  const { settings, template, refreshing, nowMs, blockedUntilMs } = facts;
  if (!settings.snapshots.enabled || refreshing || nowMs < blockedUntilMs) return undefined;
  const ageMs = template === undefined ? undefined : nowMs - template.createdAtMs;
  const quiet = facts.vms.every(({ state }) => state === 'ready' || state === 'leaving');
  if (ageMs !== undefined && ageMs < settings.snapshots.refresh_interval) return undefined;
  const must = ageMs !== undefined && ageMs >= settings.snapshots.max_age;
  if (!must && !quiet) return undefined;
  const cause = ageMs === undefined ? 'missing' : must ? 'age' : 'interval';
  // A clone would carry the age of its own template, so only a VM that booted cold is frozen.
  const source = sound.find((vm) => vm.template === undefined)?.poolVmId;
  // The first filling boots cold, and one of those VMs is frozen; only a pool without VMs boots one for its template.
  const alone = facts.vms.length === 0 && facts.recentRequests > 0;
  if (cause === 'missing' && source === undefined && !alone) return undefined;
  return source === undefined ? { cause } : { cause, source };
}

/** @returns the VM to hand out: of the newest template, the oldest first; undefined where there is none. */
export function chooseClaim(facts: Pick<PoolFacts, 'nowMs' | 'settings' | 'vms' | 'template'>): PoolVm | undefined {
  const usable = byAge(facts.vms.filter((vm) => vm.state === 'ready' && wornBy(vm, facts) === undefined));
  const { template } = facts;
  return usable.find((vm) => vm.template?.templateId === template?.templateId) ?? usable[0];
}

/**
 * Why there should be a pool. One request alone makes none: most images are requested once.
 * @param standing whether the configuration names such a pool, by a tag that now means its image
 * @param superseded whether it did so until the tag moved
 */
export function poolReason(facts: {
  readonly standing: boolean;
  readonly superseded: boolean;
  readonly recentRequests: number;
}): PoolReason {
  if (facts.standing) return 'standing';
  if (facts.recentRequests >= 2) return 'asked';
  return facts.superseded ? 'superseded' : 'unused';
}

/** A ready VM and the facts of its pool. */
export interface YieldCandidate {
  readonly poolVmId: string;
  readonly reason: PoolReason;
  /** Ready VMs of its pool beyond `min_idle`. */
  readonly surplus: number;
  readonly readySinceMs: number;
}

const LEAST_WANTED: readonly PoolReason[] = ['unused', 'superseded', 'asked', 'standing'];

/** @returns the VM to give up first where a workload needs its place. */
export function chooseYield(candidates: readonly YieldCandidate[]): string | undefined {
  const [first] = [...candidates].sort(
    (a, b) =>
      LEAST_WANTED.indexOf(a.reason) - LEAST_WANTED.indexOf(b.reason) ||
      b.surplus - a.surplus ||
      a.readySinceMs - b.readySinceMs ||
      (a.poolVmId < b.poolVmId ? -1 : 1),
  );
  return first?.poolVmId;
}
