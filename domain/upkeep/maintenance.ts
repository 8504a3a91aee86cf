/** Maintenance of a whole Kiln: input, policies and report of its workflow. */
import { KilnError } from '../failures.ts';

/** Every limit and time-out of maintenance. All injectable. */
export interface MaintenancePolicies {
  /** One try of an activity on the control queue, ms; it sends heartbeats. */
  readonly activityMs: number;
  readonly heartbeatMs: number;
  /** Tries of one activity; after that its part of the work is left to the next run. */
  readonly tries: number;
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
  /** How long a host may take to start its sweep before it counts as silent, ms. */
  readonly hostAnswerMs: number;
  readonly sweepMs: number;
  /** Closed executions read in one activity. */
  readonly pageSize: number;
  /** Pages after which the workflow continues as new. */
  readonly pagesPerExecution: number;
  /** Executions recorded in one run; the next run does the rest. */
  readonly maxRecorded: number;
  /** How much of the time before its last scan a scan reads again, ms: indexes show a close with a delay. */
  readonly overlapMs: number;
  /** Time after a workload's end for its own result; after that the result is read from its events, ms. */
  readonly deriveAfterMs: number;
  /** Workloads with something unreleased that one run checks, newest first. */
  readonly maxUnreleased: number;
  /** Workloads, sources or threads checked in one activity that removes old data. */
  readonly pruneStep: number;
  /** From the beginning of one round through the saves of all sessions to the beginning of the next, ms. */
  readonly repairEveryMs: number;
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
  repairEveryMs: 24 * 60 * MINUTE,
};

/** Ages after which old data may be removed, ms. Absent: it stays for ever. */
export interface KeepPolicies {
  /** Since the end of the workload whose log it is. */
  readonly logsMs?: number;
  /** Since the upload of sources, and since the end of the last workload that used them. */
  readonly sourcesMs?: number;
  /** Of what no save of a session needs, since it was written. */
  readonly saveGarbageMs?: number;
}

/** Input of `maintenanceWorkflow`. */
export interface MaintenanceInput {
  readonly schemaVersion: 1;
  /** Whether hosts are asked to sweep; default true. */
  readonly sweepHosts?: boolean;
  readonly keep?: KeepPolicies;
  readonly policies?: Partial<MaintenancePolicies>;
  /** What an earlier execution of the same run passed on by continue-as-new. */
  readonly carried?: CarriedMaintenance;
}

export interface CarriedMaintenance {
  readonly report: MaintenanceReport;
  readonly scan: RecordScan;
}

/** A scan over closed executions that is not finished. */
export interface RecordScan {
  /** ISO 8601, when it began: executions that close later are left to the next scan. */
  readonly startedAt: string;
  /** ISO 8601; absent: everything that Temporal still has. */
  readonly closedAfter?: string;
  /** Where to go on. */
  readonly token?: string;
  /** Close time of the earliest execution that could not be recorded: the next scan begins there. */
  readonly earliestFailed?: string;
}

/** What one run of the maintenance has done. Counts and names only. */
export interface MaintenanceReport {
  readonly recorded: {
    /** Closed executions read. */
    readonly seen: number;
    /** Executions whose history was written. */
    readonly executions: number;
    /** Workflows whose whole history is in the archive since this run. */
    readonly workflows: number;
    /** Results written for workloads that could not write their own. */
    readonly results: number;
    readonly failed: number;
    /** Whether some were left to the next run. */
    readonly more: boolean;
  };
  readonly hosts: readonly HostUpkeepReport[];
  /** `saves`: objects that no save of a session needed; absent where nobody looked for them. */
  readonly pruned: { readonly logs: number; readonly sources: number; readonly saves?: number };
  /** What failed, in words; the next run tries it again. At most `MAX_PROBLEMS`. */
  readonly problems: readonly string[];
}

/** Result of one host's sweep; without counts: the host did not answer. */
export interface HostUpkeepReport {
  readonly hostId: string;
  readonly swept: boolean;
  readonly destroyed: number;
  /** Workloads of which the host holds nothing any more. */
  readonly freed: number;
  /** Workloads of which the host still holds something. */
  readonly held: number;
}

export const MAX_PROBLEMS = 20;

export const EMPTY_REPORT: MaintenanceReport = {
  recorded: { seen: 0, executions: 0, workflows: 0, results: 0, failed: 0, more: false },
  hosts: [],
  pruned: { logs: 0, sources: 0 },
  problems: [],
};

/** @returns the defaults, replaced by the overrides where given. */
export function resolveMaintenancePolicies(overrides: Partial<MaintenancePolicies> = {}): MaintenancePolicies {
  return { ...DEFAULT_MAINTENANCE_POLICIES, ...overrides };
}

/**
 * First line of the workflow: a caller that starts one by hand gets a clear answer.
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
 * Where the next scan may begin after a finished scan.
 * @param overlapMs how much of the time before its start is read again
 * @returns ISO 8601
 */
export function nextScanFrom(scan: RecordScan, overlapMs: number): string {
  const settled = new Date(Date.parse(scan.startedAt) - overlapMs).toISOString();
  return [settled, scan.earliestFailed].filter((at) => at !== undefined).sort()[0] ?? settled;
}

function invalid(what: string): KilnError {
  return new KilnError('SPEC_INVALID', `Maintenance input: ${what}.`);
}
