import { defined } from '../domain/defined.ts';
import { type FailureCode, KilnError } from '../domain/failures.ts';
import { EXIT, UsageError } from './cli-context.ts';
import { plainText } from './terminal/terminal-text.ts';

export interface ErrorReport {
  readonly exitCode: number;
  readonly code: string;
  readonly message: string;
  /** What to do about it, if the message alone does not say it. */
  readonly fix?: string;
  /** Where a defect occurred; absent for failures that Kiln knows. */
  readonly stack?: string;
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
  PORT_NOT_ALLOWED: 'Leave --host-port out to be given a free port, or give one of the range.',
  ENV_MISSING: 'Give it with --env NAME=VALUE or --env-file.',
  INTERNAL: 'This is a defect in Kiln, or in the machine under it; the logs of the stack say more.',
};

/** @returns how an error is reported and its exit code. */
export function reportOf(error: unknown): ErrorReport {
  if (error instanceof UsageError) {
    return { exitCode: EXIT.usage, code: 'USAGE', message: error.message, fix: 'See the command with --help.' };
  }
  if (!(error instanceof KilnError)) return defect(error);
  const { code, message } = error;
  const fix = FIXES[code];
  return { exitCode: EXIT.failed, code, message, ...defined({ fix }) };
}

function defect(error: unknown): ErrorReport {
  const { message, stack } = error instanceof Error ? error : new Error(String(error));
  return {
    exitCode: EXIT.failed,
    code: 'INTERNAL',
    message,
    fix: 'This is a defect in Kiln, or in the machine under it.',
    ...defined({ stack }),
  };
}

/** @returns the report for stderr: one JSON document with `--json`, else message, what to do, and where it occurred. */
export function reportText({ exitCode: _, ...report }: ErrorReport, json: boolean): string {
  if (json) return `${JSON.stringify({ error: report })}\n`;
  const { code, message, fix, stack = '' } = report;
  const frames = stack.split('\n').filter((line) => line.startsWith('    at '));
  const lines = [`kiln: ${code}: ${plainText(message)}`, ...(fix === undefined ? [] : [`  ${fix}`]), ...frames];
  return `${lines.map(plainText).join('\n')}\n`;
}
