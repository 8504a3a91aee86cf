import type { Stage } from './workload/stage-names.ts';

/** What a failure code means. `ApplicationFailure.type` is always one of these codes; nothing branches on a message. */
export interface FailureKind {
  /** Whether the same step may be retried unchanged. */
  readonly retryable: boolean;
  /** Who can fix it: the author of the service, or the operator of Kiln. */
  readonly fault: 'user' | 'system';
  /** Stages in which it can occur; empty for a code of the API only. */
  readonly stages: readonly Stage[];
  /** HTTP status where the API answers with this code. */
  readonly status: number;
}

const ANY: readonly Stage[] = ['pending', 'validate', 'build', 'deploy', 'running'];
const VM: readonly Stage[] = ['build', 'deploy', 'running'];

const user = (status: number, ...stages: Stage[]): FailureKind => ({ retryable: false, fault: 'user', stages, status });
const system = (retryable: boolean, stages: readonly Stage[], status = 500): FailureKind => ({
  retryable,
  fault: 'system',
  stages,
  status,
});

/** The one table of failure codes. */
export const FAILURES = {
  SPEC_INVALID: user(400, 'pending', 'validate'),
  SERVICE_NOT_FOUND: user(400, 'validate'),
  MANIFEST_MISSING: user(400, 'validate'),
  CONFIG_INVALID: user(400, 'validate'),
  DEPENDENCY_UNDECLARED: user(400, 'validate', 'deploy'),
  INSPECTION_LIMIT: user(422, 'validate', 'build'),
  BUILD_FAILED: user(422, 'build'),
  BUILD_TIMEOUT: user(422, 'build'),
  ENV_MISSING: user(400, 'validate', 'build', 'deploy'),
  PORT_IN_USE: user(409, 'deploy'),
  PORT_NOT_ALLOWED: user(400, 'deploy'),
  SERVICE_EXITED: user(422, 'deploy', 'running'),
  HEALTH_FAILED: user(422, 'deploy', 'running'),
  IMAGE_MISSING: system(false, ANY, 422),
  IMAGE_CORRUPT: system(false, ANY),
  NO_CAPACITY: system(false, ['pending', 'validate', 'build'], 503),
  HOST_LOST: system(false, ANY),
  HYPERVISOR_UNAVAILABLE: system(false, VM),
  BOOT_TIMEOUT: system(true, VM),
  AGENT_TIMEOUT: system(true, VM),
  AGENT_PROTOCOL: system(false, VM),
  AGENT_LOST: system(true, VM),
  GUEST_CRASHED: system(false, VM),
  VMM_EXITED: system(false, VM),
  DISK_FULL: system(true, ANY, 507),
  TEMPLATE_MISMATCH: system(true, ['build', 'deploy']),
  TEMPLATE_CORRUPT: system(true, ['build', 'deploy']),
  CHECKPOINT_MISMATCH: system(false, ['deploy'], 409),
  CHECKPOINT_CORRUPT: system(false, ['deploy']),
  STORE_UNAVAILABLE: system(true, ANY, 503),
  STORE_CONFLICT: system(false, ANY, 409),
  ARCHIVE_CORRUPT: system(false, []),
  SESSION_CORRUPT: system(false, []),
  SESSION_EXPIRED: user(410),
  SESSION_CLOSED: user(410),
  QUEUE_FULL: user(429),
  RUN_LOST: system(false, []),
  RUN_TIMEOUT: user(422),
  RUN_SILENT: user(422),
  UNSUPPORTED: system(false, ANY, 501),
  KNOWN_DEFECT: system(false, ANY),
  TERMINATED: system(false, ANY),
  CANCELLED: system(false, ANY),
  TIMED_OUT: system(false, ANY),
  INVALID_TRANSITION: system(false, ANY),
  NOT_FOUND: user(404),
  METHOD_NOT_ALLOWED: user(405),
  CONFLICT: user(409),
  UNAUTHORIZED: user(401),
  PAYLOAD_TOO_LARGE: user(413),
  TEMPORAL_UNAVAILABLE: system(true, [], 503),
  API_UNAVAILABLE: system(true, [], 503),
  INTERNAL: system(false, ANY),
} as const satisfies Record<string, FailureKind>;

export type FailureCode = keyof typeof FAILURES;

/** @returns whether `value` is a code of the table. */
export function isFailureCode(value: unknown): value is FailureCode {
  return typeof value === 'string' && Object.hasOwn(FAILURES, value);
}

/** @returns the table's row for a code. */
export function failureKind(code: FailureCode): FailureKind {
  return FAILURES[code];
}

/**
 * @returns whether a code only says that something outside the work was away for a moment: the same call, with the same
 *   names, can be repeated, and nothing is known to be wrong with the workload
 */
export function isOutage(code: FailureCode): boolean {
  return code === 'STORE_UNAVAILABLE';
}

/**
 * An error with a code of the failure table. Adapters throw it; activities turn it into an ApplicationFailure whose
 * type is the code; the gateway turns it into a problem document.
 */
export class KilnError extends Error {
  override readonly name = 'KilnError';
  readonly code: FailureCode;
  /** Small facts for the reader: names of resources, exit codes, the end of an output. JSON values only. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: FailureCode, message: string, details: Readonly<Record<string, unknown>> = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.details = details;
  }

  get retryable(): boolean {
    return FAILURES[this.code].retryable;
  }
}

/** @returns whether an error of the file system says that the disk or a quota is full. */
export function isFullDisk(error: unknown): error is Error {
  return error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT');
}

/** @returns whether `error` is a KilnError; where codes are given, with one of them. */
export function isKilnError(error: unknown, ...codes: readonly FailureCode[]): error is KilnError {
  return error instanceof KilnError && (codes.length === 0 || codes.includes(error.code));
}

/** @returns the message of an error; any other thrown value as text. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
