/**
 * The fault table: the activities of a workload × the faults in the middle of each, and the required outcome. Only
 * data: `fault-cells.ts` runs it on a Kiln.
 */
import type { ControlActivities, HostActivities } from '../../activities/activity-types.ts';
import type { WorkloadPolicyOverrides } from '../../domain/policies.ts';
import type { Moment } from '../support/workers/port-gates.ts';

/** What goes wrong, once: an error without a code, the store unavailable, a call that never returns, and so on. */
export const FAULTS = ['fails', 'store-away', 'hangs', 'cancel', 'killed'] as const;
export type Fault = (typeof FAULTS)[number];

/** What must happen first, so that the activity is called at all. */
export type Way =
  /** The worker of the activity before it goes away. */
  | 'suspicion'
  | 'bad-boot'
  | 'bad-build'
  /** A stop while the workload is running. */
  | 'stop'
  /** The end of its VM while the workload is running. */
  | 'vm-death';

/** `runs`, `stopped`, or `<stage> <code>`. */
export type Outcome = string;

export interface Row {
  readonly activity: keyof ControlActivities | keyof HostActivities;
  /** The port call that is the effect of the activity. */
  readonly port: string;
  readonly role: 'control' | 'host';
  readonly service: string;
  readonly way?: Way;
  readonly moments: readonly Moment[];
  /** Has no heartbeat: a dead worker is only noticed when the call times out. */
  readonly silent?: true;
  /** Timings with which the call is given up soon. */
  readonly timings: WorkloadPolicyOverrides;
  readonly outcomes: Readonly<Record<Fault, Outcome>>;
}

/** A cell that is not tested, and the reason. */
export interface Senseless {
  readonly activity: string;
  readonly fault: Fault | 'any';
  readonly why: string;
}

/** Longer than any working call takes on a busy machine. */
const GIVEN_UP_MS = 6_000;
/** The same for a whole build, which boots a VM and runs a program in it. */
const BUILD_GIVEN_UP_MS = 15_000;
/** How long a worker may send no heartbeat. */
const SILENT_MS = 2_500;

/** Short for retries and silence, long for everything that works. */
export const TIMINGS: WorkloadPolicyOverrides = {
  // A call that was given up may still make a reservation, which must then expire by itself.
  placement: { deadlineMs: 60_000, backoffMs: 20, maxBackoffMs: 100, reservationTtlMs: 3_000 },
  host: { scheduleToStartMs: 10_000, lostAfterMs: 60_000, recheckMs: 100, outageTries: 100 },
  build: { heartbeatMs: SILENT_MS },
  deploy: { heartbeatMs: SILENT_MS },
  supervise: { backoffMs: 20, maxBackoffMs: 200, heartbeatMs: SILENT_MS, settleMs: 2_000 },
  leave: { graceMs: 1_000, startToCloseMs: 20_000, heartbeatMs: SILENT_MS, scheduleToCloseMs: 60_000 },
};

/** Merges policies, group by group. */
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

/** Retried automatically, as often as needed. */
const RECOVERS = { fails: 'runs', 'store-away': 'runs', hangs: 'runs', cancel: 'stopped', killed: 'runs' };
/** The workload is already ending, and no fault changes its outcome. */
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
  // An error without a code is no reason to build again: it would most likely happen again.
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
  // A guest that does not answer a request fails its boot: nobody knows what a second request would do to it.
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
    // The VM is dead, whoever saw it, unless the cancel came first.
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
  // The release of a failed boot is part of the next boot: a cancel ends both.
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
