import { z } from 'zod';
import type { FailureCode } from '../../domain/failures.ts';
import { KilnError } from '../../domain/failures.ts';

/** Shapes of the JSON payloads that come from a guest; everything in them is bounded. */

const safeCount = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

export const helloMessage = z.object({
  agentVersion: z.string().max(64),
  protocol: z.number().int(),
  bootId: z.string().regex(/^[0-9a-f]{32}$/),
  // Agents in images of earlier versions may announce none.
  features: z.array(z.string().max(64)).max(64).default([]),
});

export const failureMessage = z.object({ code: z.string().max(64), message: z.string().max(8192) });

export const nothing = z.object({});

export const execOpened = z.object({ pid: safeCount, existed: z.boolean() });

export const execExit = z.object({
  code: z.number().int().min(0).max(255).nullable(),
  signal: z
    .string()
    .regex(/^(?:SIG[A-Z0-9+-]{1,16})?$/)
    // Agents in images of earlier versions have no name for real-time signals, and for those alone.
    .transform((name) => name || 'SIGRT')
    .nullable(),
  timedOut: z.boolean(),
});

/** Far above the number that an agent remembers. */
const MAX_EXECS = 10_000;

export const execList = z
  .array(z.object({ execId: z.string().min(1).max(256), pid: safeCount, exit: execExit.exactOptional() }))
  .max(MAX_EXECS);

export const tarReceived = z.object({ bytes: safeCount });

export const saveOpened = z.object({ delta: z.boolean() });

export const saveSummary = z.object({
  entries: safeCount,
  files: safeCount,
  bytes: safeCount,
  readFiles: safeCount,
  readBytes: safeCount,
  sentChunks: safeCount,
  sentBytes: safeCount,
  skipped: safeCount,
  changed: safeCount,
  scanMs: safeCount,
  totalMs: safeCount,
});

export const restoredMessage = z.object({ entries: safeCount, bytes: safeCount });

export const usageMessage = z.object({ memUsedBytes: safeCount, memTotalBytes: safeCount, cpuMs: safeCount });

export const execUsageMessage = z.object({ cpuMs: safeCount, processes: safeCount });

export const egressRequest = z.object({
  kind: z.literal('egress'),
  // How labels may begin or end is for the policy to decide: a program's odd name must not end the whole channel.
  name: z
    .string()
    .max(253)
    .regex(/^[a-z0-9_-]+(\.[a-z0-9_-]+)*$/),
  port: z.number().int().min(1).max(65535),
});

/** Codes that a guest may name as the reason of a refusal. Others would let it speak for the host. */
const GUEST_CODES: ReadonlySet<string> = new Set<FailureCode>([
  'AGENT_PROTOCOL',
  'CONFLICT',
  'DISK_FULL',
  'INTERNAL',
  'NOT_FOUND',
  'PAYLOAD_TOO_LARGE',
  'QUEUE_FULL',
  'SPEC_INVALID',
  'UNSUPPORTED',
]);

function isGuestCode(code: string): code is FailureCode {
  return GUEST_CODES.has(code);
}

/** @throws AGENT_PROTOCOL where the payload is not JSON of this shape. */
export function parseMessage<T>(schema: z.ZodType<T>, payload: Buffer, what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(payload.toString('utf8'));
  } catch (cause) {
    throw new KilnError('AGENT_PROTOCOL', `The guest agent sent a ${what} that is not JSON.`, {}, cause);
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    throw new KilnError('AGENT_PROTOCOL', `The guest agent sent a ${what} of the wrong shape.`, {
      problem: z.prettifyError(parsed.error).slice(0, 500),
    });
  }
  return parsed.data;
}

/** A refusal by the guest: the error it stands for, and the code as the guest wrote it. */
export class GuestRefusal extends KilnError {
  readonly guestCode: string;

  constructor(code: string, message: string) {
    super(isGuestCode(code) ? code : 'INTERNAL', `The guest refused: ${message}`, { guestCode: code });
    this.guestCode = code;
  }
}

/** @throws AGENT_PROTOCOL where the payload is not a refusal. */
export function parseRefusal(payload: Buffer): GuestRefusal {
  const { code, message } = parseMessage(failureMessage, payload, 'refusal');
  return new GuestRefusal(code, message);
}
