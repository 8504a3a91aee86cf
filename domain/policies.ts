import type { SessionSettings } from './session/session-record.ts';

/** Every timeout, retry count and wait of a workload. All injectable: tests run the real workflow in milliseconds. */

export interface WorkloadPolicies {
  readonly control: { readonly startToCloseMs: number; readonly scheduleToCloseMs: number };
  readonly placement: {
    /** How long a workload may wait for capacity before it fails with NO_CAPACITY. */
    readonly deadlineMs: number;
    readonly backoffMs: number;
    readonly maxBackoffMs: number;
    /** A request in the line for capacity that has not asked for this long is no longer counted. */
    readonly seenForMs: number;
    /** Lifetime of a reservation that is not renewed; an instance record keeps it alive. */
    readonly reservationTtlMs: number;
  };
  readonly host: {
    /** How long a host may take to pick up a task before it is suspected. */
    readonly scheduleToStartMs: number;
    /** Age of the last registry entry after which a silent host counts as lost. */
    readonly lostAfterMs: number;
    /** Pause between two checks of a suspected host. */
    readonly recheckMs: number;
    /** As the first two, for an owner that loses nothing where it moves to another host. */
    readonly movesAfter: { readonly scheduleToStartMs: number; readonly silentMs: number };
    /**
     * How long a host that registers but takes no calls may let a VM of an owner run after that owner was placed anew:
     * the lease of its VMs, and some time for clocks and answers.
     */
    readonly leasesMs: number;
    /** Most placements tried where hosts are lost before the service runs. */
    readonly placements: number;
    /** How often one call is repeated while something outside of it, such as the store, is away. */
    readonly outageTries: number;
  };
  readonly validate: { readonly startToCloseMs: number; readonly tries: number };
  readonly build: {
    readonly startToCloseMs: number;
    readonly heartbeatMs: number;
    readonly tries: number;
    /** Builds restarted because their host's worker, or the store, went away; they do not count as tries. */
    readonly interruptions: number;
    /** Boot deadline of the builder VM. */
    readonly bootMs: number;
  };
  readonly deploy: {
    /** To make the disks of a VM, including the download of an image that the host does not have yet. */
    readonly provisionMs: number;
    readonly bootMs: number;
    readonly startMs: number;
    /** What `checkHealth` may take beyond the service's own start period before its worker counts as hung. */
    readonly healthMarginMs: number;
    readonly heartbeatMs: number;
    /** Boot tries, each with a VM of a new name. */
    readonly boots: number;
  };
  readonly supervise: {
    readonly startToCloseMs: number;
    readonly heartbeatMs: number;
    readonly backoffMs: number;
    readonly maxBackoffMs: number;
    /** How long the supervisor may take to notice by itself that the service was stopped. */
    readonly settleMs: number;
    /** Supervisions after which the workflow continues as new. */
    readonly continueAfter: number;
  };
  readonly leave: {
    /** From SIGTERM to SIGKILL of the service, and from the agent's power-off to force. */
    readonly graceMs: number;
    readonly startToCloseMs: number;
    readonly heartbeatMs: number;
    /** After this a resource counts as unreleased; then the host's sweep has to free it. */
    readonly scheduleToCloseMs: number;
  };
}

/** The policies that placing, booting and releasing a VM need, for any owner. */
export type PlacedPolicies = Pick<WorkloadPolicies, 'control' | 'placement' | 'host' | 'leave'> & {
  readonly deploy: Pick<WorkloadPolicies['deploy'], 'provisionMs' | 'bootMs' | 'heartbeatMs' | 'boots'>;
  readonly supervise: Pick<WorkloadPolicies['supervise'], 'backoffMs' | 'maxBackoffMs'>;
};

/** Every timeout and wait of a session. */
export interface SessionPolicies extends PlacedPolicies {
  readonly run: {
    /** Heartbeats of a run come later than this only where its host is in trouble. */
    readonly heartbeatMs: number;
    /** What `runTurn` may take beyond the run's own limit before its worker counts as hung. */
    readonly marginMs: number;
    /** Limit of a run that asks for none, and the longest that may be asked for. */
    readonly timeoutMs: number;
    readonly maxTimeoutMs: number;
    /** A run of which nothing is heard for so long, no output, no use of CPU, no bytes to or from the outside, is killed. */
    readonly silentMs: number;
    /** How often a repeatable run is started again after its VM was lost. */
    readonly repeats: number;
  };
  readonly save: {
    /** A save reads what changed, a restore brings back everything: most time for each. */
    readonly saveMs: number;
    readonly restoreMs: number;
    /** Most time of one try to bring a save into the store. */
    readonly uploadMs: number;
    readonly heartbeatMs: number;
    /** Pause before a try that follows a failed one: doubled from try to try up to the maximum. */
    readonly backoffMs: number;
    readonly maxBackoffMs: number;
    /** A save that takes longer is given up for a run that waits; so many runs in a row, it is not. */
    readonly giveUpMs: number;
    /** Runs in an unbroken row after which the next one waits for a save. */
    readonly runsBetween: number;
    /** How long the end of a VM, or of the session, waits for a save to be in the store. */
    readonly lastUploadMs: number;
  };
  readonly session: {
    /** Pause after a run before the workflow continues as new, so that a caller who waits is answered first. */
    readonly settleMs: number;
    /** Events after which a session that rests continues as new, and those after which it does so between two runs. */
    readonly continueAfter: number;
    readonly continueAnywayAfter: number;
    /** Events after which a session without a VM continues as new. */
    readonly continueColdAfter: number;
    /** A hold that is neither released nor kept for longer ends after this. */
    readonly holdMs: number;
  };
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const DAY = 24 * 60 * MINUTE;

export const DEFAULT_POLICIES: WorkloadPolicies = {
  control: { startToCloseMs: 10 * SECOND, scheduleToCloseMs: 2 * MINUTE },
  placement: {
    deadlineMs: 10 * MINUTE,
    backoffMs: 200,
    maxBackoffMs: 5 * SECOND,
    seenForMs: 30 * SECOND,
    reservationTtlMs: 2 * MINUTE,
  },
  host: {
    scheduleToStartMs: 10 * SECOND,
    lostAfterMs: MINUTE,
    recheckMs: 2 * SECOND,
    movesAfter: { scheduleToStartMs: 3 * SECOND, silentMs: 10 * SECOND },
    leasesMs: 25 * SECOND,
    placements: 5,
    outageTries: 20,
  },
  validate: { startToCloseMs: 30 * SECOND, tries: 3 },
  build: { startToCloseMs: 30 * MINUTE, heartbeatMs: 15 * SECOND, tries: 2, interruptions: 10, bootMs: 30 * SECOND },
  deploy: {
    provisionMs: 5 * MINUTE,
    bootMs: 20 * SECOND,
    startMs: 30 * SECOND,
    healthMarginMs: MINUTE,
    heartbeatMs: 5 * SECOND,
    boots: 2,
  },
  supervise: {
    startToCloseMs: 30 * DAY,
    heartbeatMs: 15 * SECOND,
    backoffMs: 200,
    maxBackoffMs: 5 * SECOND,
    settleMs: 5 * SECOND,
    continueAfter: 200,
  },
  leave: { graceMs: 10 * SECOND, startToCloseMs: 45 * SECOND, heartbeatMs: 10 * SECOND, scheduleToCloseMs: 2 * MINUTE },
};

/** What a session has that asks for nothing else: an image by name, one vCPU, 2 GiB of /workspace, no egress. */
export const SESSION_DEFAULTS = {
  image: 'node',
  resources: { vcpus: 1, memMib: 512, diskMib: 2048 },
  egress: [],
  tiers: { idleMs: 15 * MINUTE, ttlMs: 30 * DAY },
} as const satisfies Omit<SessionSettings, 'image'> & { readonly image: string };

const HOUR = 60 * MINUTE;

export const DEFAULT_SESSION_POLICIES: SessionPolicies = {
  ...DEFAULT_POLICIES,
  // A paused guest answers nobody, and what is in its workspace goes with it: it has nothing to bring to an end.
  leave: { ...DEFAULT_POLICIES.leave, graceMs: 0 },
  run: {
    heartbeatMs: 15 * SECOND,
    marginMs: MINUTE,
    timeoutMs: HOUR,
    maxTimeoutMs: 24 * HOUR,
    silentMs: 10 * MINUTE,
    repeats: 2,
  },
  save: {
    saveMs: 10 * MINUTE,
    restoreMs: 10 * MINUTE,
    uploadMs: 10 * MINUTE,
    heartbeatMs: 15 * SECOND,
    backoffMs: SECOND,
    maxBackoffMs: 5 * MINUTE,
    giveUpMs: 5 * SECOND,
    runsBetween: 3,
    lastUploadMs: MINUTE,
  },
  // A run makes about 40 events, and the server refuses the 2,001st update of an execution.
  session: {
    settleMs: 2 * SECOND,
    continueAfter: 1000,
    continueAnywayAfter: 4000,
    continueColdAfter: 400,
    holdMs: MINUTE,
  },
};

/** Any subset of the policies, group by group. */
export type WorkloadPolicyOverrides = {
  readonly [Group in keyof WorkloadPolicies]?: Partial<WorkloadPolicies[Group]>;
};

/** @returns the defaults, replaced by the overrides where given. */
export function resolvePolicies(overrides: WorkloadPolicyOverrides = {}): WorkloadPolicies {
  const d = DEFAULT_POLICIES;
  return {
    control: { ...d.control, ...overrides.control },
    placement: { ...d.placement, ...overrides.placement },
    host: { ...d.host, ...overrides.host },
    validate: { ...d.validate, ...overrides.validate },
    build: { ...d.build, ...overrides.build },
    deploy: { ...d.deploy, ...overrides.deploy },
    supervise: { ...d.supervise, ...overrides.supervise },
    leave: { ...d.leave, ...overrides.leave },
  };
}

/** Any subset of the policies of sessions, group by group. */
export type SessionPolicyOverrides = {
  readonly [Group in keyof SessionPolicies]?: Partial<SessionPolicies[Group]>;
};

/** @returns the defaults of sessions, replaced by the overrides where given. */
export function resolveSessionPolicies(overrides: SessionPolicyOverrides = {}): SessionPolicies {
  const d = DEFAULT_SESSION_POLICIES;
  return {
    control: { ...d.control, ...overrides.control },
    placement: { ...d.placement, ...overrides.placement },
    host: { ...d.host, ...overrides.host },
    deploy: { ...d.deploy, ...overrides.deploy },
    supervise: { ...d.supervise, ...overrides.supervise },
    leave: { ...d.leave, ...overrides.leave },
    run: { ...d.run, ...overrides.run },
    save: { ...d.save, ...overrides.save },
    session: { ...d.session, ...overrides.session },
  };
}

/** Doubling pause before try `attempt` (from 1), with a maximum. */
export function backoffMs(attempt: number, firstMs: number, maxMs: number): number {
  return Math.min(maxMs, firstMs * 2 ** Math.min(attempt - 1, 30));
}
