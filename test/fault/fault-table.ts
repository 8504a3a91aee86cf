/**
 * The fault table: the activities of a workload × what can go wrong in the middle of each, and what must come of it.
 * Data only; `fault-cells.ts` does it to a Kiln.
 */
import type { ControlActivities, HostActivities } from '../../activities/activity-types.ts';
import type { WorkloadPolicyOverrides } from '../../domain/policies.ts';
import type { Moment } from '../support/workers/port-gates.ts';

/** What goes wrong, once: with an error nobody has a name for, with the store away, never coming back, and so on. */
export const FAULTS = ['fails', 'store-away', 'hangs', 'cancel', 'killed'] as const;
export type Fault = (typeof FAULTS)[number];

/** What has to be done first so that the activity is called at all. */
export type Way =
  /** The activity before it ends because its worker goes away. */
  | 'suspicion'
  | 'bad-boot'
  | 'bad-build'
  /** A stop while running. */
  | 'stop'
  /** The end of its VM while running. */
  | 'vm-death';

/** `runs`, `stopped`, or `<stage> <code>`. */
export type Outcome = string;

export interface Row {
  readonly activity: keyof ControlActivities | keyof HostActivities;
  /** The call that is the activity's effect. */
  readonly port: string;
  readonly role: 'control' | 'host';
  readonly service: string;
  readonly way?: Way;
  readonly moments: readonly Moment[];
  /** Without a heartbeat: that its worker is gone is noticed only when the call is given up. */
  readonly silent?: true;
  /** Timings under which the call is given up soon. */
  readonly timings: WorkloadPolicyOverrides;
  readonly outcomes: Readonly<Record<Fault, Outcome>>;
}

/** A cell that is not done, and why. */
export interface Senseless {
  readonly activity: string;
  readonly fault: Fault | 'any';
  readonly why: string;
}

/** Longer than any call that works takes on a busy machine. */
const GIVEN_UP_MS = 6_000;
/** The same for a whole build, which boots a VM and runs a program in it. */
const BUILD_GIVEN_UP_MS = 15_000;
/** How long a worker may be silent. */
const SILENT_MS = 2_500;

/** Quick where something went wrong, patient where it did not. */
export const TIMINGS: WorkloadPolicyOverrides = {
  // What a call that was given up reserves after all must go by itself.
  placement: { deadlineMs: 60_000, backoffMs: 20, maxBackoffMs: 100, reservationTtlMs: 3_000 },
  host: { scheduleToStartMs: 10_000, lostAfterMs: 60_000, recheckMs: 100, outageTries: 100 },
  build: { heartbeatMs: SILENT_MS },
  deploy: { heartbeatMs: SILENT_MS },
  supervise: { backoffMs: 20, maxBackoffMs: 200, heartbeatMs: SILENT_MS, settleMs: 2_000 },
  leave: { graceMs: 1_000, startToCloseMs: 20_000, heartbeatMs: SILENT_MS, scheduleToCloseMs: 60_000 },
};

/** Lays policies over others, group by group. */
function over(base: WorkloadPolicyOverrides, more: WorkloadPolicyOverrides): WorkloadPolicyOverrides {
  return {
    ...base,
    ...more,
    placement: { ...base.placement, ...more.placement },
    build: { ...base.build, ...more.build },
    deploy: { ...base.deploy, ...more.deploy },
    supervise: { ...base.supervise, ...more.supervise },
    leave: { ...base.leave, ...more.leave },
  };
}

const CONTROL = over(TIMINGS, { control: { startToCloseMs: GIVEN_UP_MS } });
const LEAVING = over(TIMINGS, { leave: { startToCloseMs: GIVEN_UP_MS } });

/** Called again by itself, as often as it takes. */
const RECOVERS = { fails: 'runs', 'store-away': 'runs', hangs: 'runs', cancel: 'stopped', killed: 'runs' };
/** The workload is on its way out: nothing changes where it goes. */
const always = (outcome: Outcome) => ({
  fails: outcome,
  'store-away': outcome,
  hangs: outcome,
  cancel: outcome,
  killed: outcome,
});
const BOTH: readonly Moment[] = ['before', 'after'];

type Common = Omit<Row, 'activity' | 'port'>;

const control: Common = {
  role: 'control',
  service: 'plain',
  moments: BOTH,
  timings: CONTROL,
  silent: true,
  outcomes: RECOVERS,
};
const host: Common = { role: 'host', service: 'plain', moments: BOTH, timings: TIMINGS, outcomes: RECOVERS };
const building: Omit<Row, 'port'> = {
  ...host,
  activity: 'buildService',
  service: 'waits-in-build',
  timings: over(TIMINGS, { build: { startToCloseMs: BUILD_GIVEN_UP_MS } }),
  // A fault without a name is no reason for a second build: it would most likely come again.
  outcomes: { ...RECOVERS, fails: 'build INTERNAL' },
};
const deploying: Common = { ...host, outcomes: { ...RECOVERS, fails: 'deploy INTERNAL' } };
const leaving: Omit<Row, 'port'> = {
  ...host,
  activity: 'releaseVm',
  timings: LEAVING,
  outcomes: always('stopped'),
  way: 'stop',
};

export const ROWS: readonly Row[] = [
  { ...control, activity: 'placeWorkload', port: 'hosts.list' },
  {
    ...host,
    activity: 'reserveCapacity',
    port: 'ledger.reserve',
    timings: CONTROL,
    silent: true,
    outcomes: { ...RECOVERS, fails: 'pending INTERNAL' },
  },
  {
    ...host,
    activity: 'validateService',
    port: 'sources.inspect',
    silent: true,
    timings: over(TIMINGS, { validate: { startToCloseMs: GIVEN_UP_MS } }),
  },
  { ...control, activity: 'resolveImage', port: 'images.resolve', service: 'other-image' },
  { ...building, port: 'sources.pack' },
  { ...building, port: 'vms.boot' },
  { ...building, port: 'builds.save' },
  { ...building, port: 'vms.release' },
  {
    ...deploying,
    activity: 'provisionRootfs',
    port: 'vms.provision',
    timings: over(TIMINGS, { deploy: { provisionMs: GIVEN_UP_MS } }),
  },
  {
    ...deploying,
    activity: 'bootVm',
    port: 'vms.boot',
    timings: over(TIMINGS, { deploy: { bootMs: GIVEN_UP_MS } }),
  },
  // A guest that takes no orders is given up with its boot; nobody knows what a second order would do to it.
  ...['vms.openPort', 'services.start'].map((port) => ({
    ...deploying,
    activity: 'startService' as const,
    port,
    timings: over(TIMINGS, { deploy: { startMs: GIVEN_UP_MS } }),
    outcomes: { ...deploying.outcomes, hangs: 'deploy BOOT_TIMEOUT' },
  })),
  {
    ...deploying,
    activity: 'checkHealth',
    port: 'services.setStage',
    timings: over(TIMINGS, { deploy: { healthMarginMs: 0 } }),
    outcomes: { ...deploying.outcomes, hangs: 'deploy BOOT_TIMEOUT' },
  },
  { ...control, activity: 'checkHost', port: 'hosts.read', way: 'suspicion' },
  {
    ...host,
    activity: 'superviseVm',
    port: 'vms.waitExit',
    moments: ['before'],
    timings: over(TIMINGS, { supervise: { startToCloseMs: GIVEN_UP_MS } }),
  },
  {
    ...host,
    activity: 'superviseVm',
    port: 'vms.waitExit',
    moments: ['after'],
    way: 'vm-death',
    timings: over(TIMINGS, { supervise: { startToCloseMs: GIVEN_UP_MS } }),
    // The VM is dead whoever saw it, unless the cancel was first.
    outcomes: { ...always('running VMM_EXITED'), cancel: 'stopped' },
  },
  { ...leaving, activity: 'stopService', port: 'services.stop' },
  { ...leaving, port: 'vms.release' },
  { ...leaving, port: 'ledger.release' },
  {
    ...leaving,
    port: 'vms.release',
    way: 'bad-build',
    service: 'build-fails',
    outcomes: always('build BUILD_FAILED'),
  },
  // The release of a failed boot is part of the next one: a cancel ends both.
  { ...leaving, port: 'vms.release', way: 'bad-boot', outcomes: RECOVERS },
  {
    ...control,
    activity: 'closeBooks',
    port: 'documents.writeResult',
    way: 'stop',
    outcomes: always('stopped'),
  },
];

export const SENSELESS: readonly Senseless[] = [
  {
    activity: 'placeWorkload, resolveImage, checkHost',
    fault: 'any',
    why: '"after its effect" is "its answer is lost": they only read',
  },
  {
    activity: 'superviseVm',
    fault: 'any',
    why: '"after its effect" needs something to have been seen: there the VM dies first',
  },
  {
    activity: 'closeBooks, releaseVm, stopService',
    fault: 'cancel',
    why: 'the outcome is fixed before they are called: done all the same, to see that it changes nothing',
  },
];
