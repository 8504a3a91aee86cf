/** What the maintenance of a whole Kiln is told and what it tells: input, policies and report of its workflow. */
import { KilnError } from '../failures.ts';

/** Every limit and time-out of maintenance. All injectable. */
export interface MaintenancePolicies {
  /** One try of an activity on the control queue, ms; it sends heartbeats. */
  readonly activityMs: number;
  readonly heartbeatMs: number;
  /** Tries of one activity before its part of the work is left to the next run. */
  readonly tries: number;
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
  /** How long a host may take to pick up its sweep before it is noted as silent, ms. */
  readonly hostAnswerMs: number;
  readonly sweepMs: number;
  /** Closed executions looked at in one activity. */
  readonly pageSize: number;
  /** Pages after which the workflow continues as new. */
  readonly pagesPerExecution: number;
  /** Executions recorded in one run; what is left over comes with the next. */
  readonly maxRecorded: number;
  /** How much of the time before its last scan a scan looks at again, ms: indexes tell of a close with a delay. */
  readonly overlapMs: number;
  /** How long after its end a workload's own word is waited for before its result is read from its events, ms. */
  readonly deriveAfterMs: number;
  /** Workloads with something unreleased that are looked after in one run, newest first. */
  readonly maxUnreleased: number;
  /** Workloads or sources looked at in one activity that removes what is old. */
  readonly pruneStep: number;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;

export const DEFAULT_MAINTENANCE_POLICIES: MaintenancePolicies = {
  activityMs: 10 * MINUTE,
  heartbeatMs: 30 * SECOND,
  tries: 5,
  backoffMs: SECOND,
  maxBackoffMs: MINUTE,
  hostAnswerMs: 15 * SECOND,
  sweepMs: 5 * MINUTE,
  pageSize: 50,
  pagesPerExecution: 200,
  maxRecorded: 2000,
  overlapMs: 60 * MINUTE,
  deriveAfterMs: 10 * MINUTE,
  maxUnreleased: 500,
  pruneStep: 500,
};

/** Ages after which what is over may go, ms. Absent: it is kept for ever. */
export interface KeepPolicies {
  /** Since the end of the workload whose log it is. */
  readonly logsMs?: number;
  /** Since sources were uploaded, and since the end of the last workload that was made of them. */
  readonly sourcesMs?: number;
}

/** Input of `maintenanceWorkflow`. */
export interface MaintenanceInput {
  readonly schemaVersion: 1;
  /** Whether hosts are asked to sweep; default true. */
  readonly sweepHosts?: boolean;
  readonly keep?: KeepPolicies;
  readonly policies?: Partial<MaintenancePolicies>;
  /** What an earlier execution of the same run handed over by continue-as-new. */
  readonly carried?: CarriedMaintenance;
}

export interface CarriedMaintenance {
  readonly report: MaintenanceReport;
  readonly scan: RecordScan;
}

/** A scan over closed executions that is under way. */
export interface RecordScan {
  /** ISO 8601, when it began: what closes later is left to the next. */
  readonly startedAt: string;
  /** ISO 8601; absent: everything that Temporal remembers. */
  readonly closedAfter?: string;
  /** Where to go on. */
  readonly token?: string;
  /** When the earliest of those closed that could not be recorded: the next scan begins there. */
  readonly earliestFailed?: string;
}

/** What one run of the maintenance has done. Counts and names only. */
export interface MaintenanceReport {
  readonly recorded: {
    /** Closed executions looked at. */
    readonly seen: number;
    /** Executions whose history was written. */
    readonly executions: number;
    /** Workflows whose whole history is in the archive since this run. */
    readonly workflows: number;
    /** Results written for workloads that could not write theirs. */
    readonly results: number;
    readonly failed: number;
    /** Whether some were left to the next run. */
    readonly more: boolean;
  };
  readonly hosts: readonly HostUpkeepReport[];
  readonly pruned: { readonly logs: number; readonly sources: number };
  /** What did not work, in words; each is tried again by the next run. At most `MAX_PROBLEMS`. */
  readonly problems: readonly string[];
}

/** What one host's sweep came to; absent counts: it did not answer. */
export interface HostUpkeepReport {
  readonly hostId: string;
  readonly swept: boolean;
  readonly destroyed: number;
  /** Workloads of which nothing is held any more. */
  readonly freed: number;
  /** Workloads of which something is still held. */
  readonly held: number;
}

export const MAX_PROBLEMS = 20;

export const EMPTY_REPORT: MaintenanceReport = {
  recorded: { seen: 0, executions: 0, workflows: 0, results: 0, failed: 0, more: false },
  hosts: [],
  pruned: { logs: 0, sources: 0 },
  problems: [],
};

/** @returns the defaults with the overrides laid over them. */
export function resolveMaintenancePolicies(overrides: Partial<MaintenancePolicies> = {}): MaintenancePolicies {
  return { ...DEFAULT_MAINTENANCE_POLICIES, ...overrides };
}

/**
 * First line of the workflow: whoever starts one by hand gets a plain answer.
 * @throws KilnError SPEC_INVALID
 */
export function assertMaintenanceInput(input: unknown): asserts input is MaintenanceInput {
  if (typeof input !== 'object' || input === null) throw invalid('must be an object, such as {"schemaVersion": 1}');
  const fields: Record<string, unknown> = { ...input };
  if (fields.schemaVersion !== 1) throw invalid('schemaVersion must be 1');
  for (const name of ['keep', 'policies'] as const) {
    const group = fields[name];
    if (group === undefined) continue;
    if (typeof group !== 'object' || group === null) throw invalid(`${name} must be an object`);
    for (const [key, value] of Object.entries(group)) {
      if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) {
        throw invalid(`${name}.${key} must be a number from 0`);
      }
    }
  }
}

/**
 * Where the next scan may begin once a scan has come to its end.
 * @param overlapMs how much of the time before its start is looked at again
 * @returns ISO 8601
 */
export function nextScanFrom(scan: RecordScan, overlapMs: number): string {
  const settled = new Date(Date.parse(scan.startedAt) - overlapMs).toISOString();
  return [settled, scan.earliestFailed].filter((at) => at !== undefined).sort()[0] ?? settled;
}

function invalid(what: string): KilnError {
  return new KilnError('SPEC_INVALID', `Maintenance input: ${what}.`);
}
