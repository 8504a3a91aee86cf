import { type FailureCode, KilnError } from '../domain/failures.ts';
import { EXIT, UsageError } from './cli-context.ts';
import { plainText } from './terminal-text.ts';

export interface ErrorReport {
  readonly exitCode: number;
  readonly code: string;
  readonly message: string;
  /** What to do about it, where the message alone does not say. */
  readonly fix?: string;
}

const FIXES: Partial<Record<FailureCode, string>> = {
  UNAUTHORIZED:
    'Give the token of that stack in KILN_TOKEN, or unset KILN_API_URL and KILN_TOKEN to use a local stack.',
  API_UNAVAILABLE: 'Start a stack with `kiln dev`, or check KILN_API_URL.',
  TEMPORAL_UNAVAILABLE: 'See what does not answer with `kiln gateway status`, then try again.',
  STORE_UNAVAILABLE: 'See what does not answer with `kiln gateway status`, then try again.',
  NO_CAPACITY: 'See what is free with `kiln host list`; stop a workload, or ask for less with --vcpus and --mem-mib.',
  HOST_LOST: 'See the hosts with `kiln host list`; a new workload is placed on another one.',
  PORT_IN_USE: 'Leave --host-port out to be given a free port.',
  ENV_MISSING: 'Give it with --env NAME=VALUE or --env-file.',
  INTERNAL: 'This is a defect in Kiln, or in the machine under it; the logs of the stack say more.',
};

/** @returns how an error is told and which exit code it has. */
export function reportOf(error: unknown): ErrorReport {
  if (error instanceof UsageError) {
    return { exitCode: EXIT.usage, code: 'USAGE', message: error.message, fix: 'See the command with --help.' };
  }
  const code = error instanceof KilnError ? error.code : 'INTERNAL';
  const message = error instanceof Error ? error.message : String(error);
  const fix = FIXES[code];
  return { exitCode: EXIT.failed, code, message, ...(fix === undefined ? {} : { fix }) };
}

/** @returns the report for stderr: one JSON document with `--json`, else two lines. */
export function reportText({ code, message, fix }: ErrorReport, json: boolean): string {
  if (json) return `${JSON.stringify({ error: { code, message, ...(fix === undefined ? {} : { fix }) } })}\n`;
  return `kiln: ${code}: ${plainText(message)}\n${fix === undefined ? '' : `  ${fix}\n`}`;
}
