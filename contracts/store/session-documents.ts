/** What the object store holds of a thread and its sessions. */
import { z } from 'zod';
import type { EndedRun } from '../../domain/session/run-book.ts';
import type { SessionRecord } from '../../domain/session/session-record.ts';
import { VM_ID_PATTERN } from '../host/instance-record.ts';
import {
  digestSchema,
  hostIdSchema,
  imageNameSchema,
  isoTimeSchema,
  projectSchema,
  runIdSchema,
  threadSchema,
} from '../identifiers.ts';
import type { Same } from '../same-type.ts';

const incarnationSchema = z.int().min(1).max(999_999_999);
const durationSchema = z.int().min(1).max(Number.MAX_SAFE_INTEGER);

const MAX_EGRESS_ENTRIES = 100;

export const sessionSettingsSchema = z.strictObject({
  image: z.strictObject({ name: imageNameSchema, digest: digestSchema }),
  resources: z.strictObject({
    vcpus: z.int().min(1).max(64),
    memMib: z.int().min(128).max(262_144),
    diskMib: z.int().min(64).max(65_536),
  }),
  egress: z.array(z.string().max(300)).max(MAX_EGRESS_ENTRIES).readonly(),
  tiers: z.strictObject({ idleMs: durationSchema, ttlMs: durationSchema }),
});

export const sessionEndSchema = z.strictObject({
  as: z.enum(['closed', 'expired', 'deleted']),
  at: isoTimeSchema,
  cause: z.string().max(500),
  lastTurn: z.int().min(0),
  emptiedAt: isoTimeSchema.exactOptional().meta({
    description: 'Of a deleted one: since when nothing but this record is left of the thread.',
  }),
});

/** `sessions/<project>/<thread>/session.json`. */
export const sessionRecordSchema = z.strictObject({
  schemaVersion: z.literal(1),
  project: projectSchema,
  thread: threadSchema,
  incarnation: incarnationSchema,
  settings: sessionSettingsSchema,
  createdAt: isoTimeSchema,
  end: sessionEndSchema.exactOptional(),
  deleteAfter: isoTimeSchema.exactOptional(),
});

/** `ended/<day>/<project>/<thread>/<n>`: a session that is over, and from when on its saves may be deleted. */
export const endedMarkerSchema = z.strictObject({ schemaVersion: z.literal(1), deleteAfter: isoTimeSchema });

const _record: Same<z.infer<typeof sessionRecordSchema>, SessionRecord> = true;

const MAX_ARGUMENTS = 4_096;

/** What a caller asks a run to do; it travels and is kept only sealed. */
export const runRequestSchema = z.strictObject({
  schemaVersion: z.literal(1),
  argv: z.array(z.string()).min(1).max(MAX_ARGUMENTS),
  env: z.record(z.string(), z.string()),
});

export const lostWorkspaceSchema = z.strictObject({
  afterTurn: z.int().min(0),
  reason: z.string().max(1000),
  restoredTurn: z
    .int()
    .min(0)
    .exactOptional()
    .meta({ description: 'The files are as they were after this turn. Absent: the workspace is empty.' }),
});

/** How a run ended. */
export const runOutcomeSchema = z.discriminatedUnion('as', [
  z.strictObject({
    as: z.literal('finished'),
    code: z.int().nullable(),
    signal: z.string().max(40).nullable(),
    outputBytes: z.int().min(0),
  }),
  z.strictObject({ as: z.literal('failed'), failure: z.string().max(80), message: z.string().max(2000) }),
  z.strictObject({ as: z.literal('cancelled'), cause: z.string().max(500) }),
]);

const endedRunSchema = z.strictObject({
  id: runIdSchema,
  bodyHash: z.string().regex(/^[0-9a-f]{64}$/),
  acceptedAt: isoTimeSchema,
  turn: z.int().min(1).exactOptional(),
  startedAt: isoTimeSchema.exactOptional(),
  endedAt: isoTimeSchema,
  vm: z.strictObject({ hostId: hostIdSchema, vmId: z.string().regex(VM_ID_PATTERN) }).exactOptional(),
  lost: lostWorkspaceSchema.exactOptional(),
  outcome: runOutcomeSchema,
});

/** `runs/<sha256 of id>.json`. */
export const runRecordSchema = z.strictObject({
  schemaVersion: z.literal(1),
  incarnation: incarnationSchema,
  run: endedRunSchema,
});

const _endedRun: Same<z.infer<typeof endedRunSchema>, EndedRun> = true;

const KEY_BYTES = 32;

/** `<n>/key.json`: what seals the messages of one incarnation. Deleting it deletes what histories hold of them. */
export const sessionKeySchema = z.strictObject({
  schemaVersion: z.literal(1),
  key: z.base64().refine((text) => Buffer.from(text, 'base64').length === KEY_BYTES, `must be ${KEY_BYTES} bytes`),
});
