/** What the object store holds of a thread and its sessions. */
import { z } from 'zod';
import { DEFAULT_PROJECT, PROJECT_ID_PATTERN, RUN_ID_PATTERN, THREAD_PATTERN } from '../../domain/names.ts';
import type { SessionRecord } from '../../domain/session/session-record.ts';
import { digestSchema, imageNameSchema, isoTimeSchema } from '../identifiers.ts';
import type { Same } from '../same-type.ts';

export const projectSchema = z
  .string()
  .regex(PROJECT_ID_PATTERN, 'must be 1 to 40 characters of a-z, 0-9 and -')
  .meta({ example: DEFAULT_PROJECT });
export const threadSchema = z
  .string()
  .regex(THREAD_PATTERN, 'must be 1 to 64 characters of A-Z, a-z, 0-9, . _ -, not beginning with a dot')
  .meta({ example: 'thread-42' });
export const runIdSchema = z
  .string()
  .regex(RUN_ID_PATTERN, 'must be 1 to 128 characters of A-Z, a-z, 0-9, . _ : -')
  .meta({ example: 'msg-7' });
const incarnationSchema = z.int().min(1).max(999_999_999);
const durationSchema = z.int().min(1).max(Number.MAX_SAFE_INTEGER);

const MAX_EGRESS_ENTRIES = 100;

const settingsSchema = z.strictObject({
  image: z.strictObject({ name: imageNameSchema, digest: digestSchema }),
  resources: z.strictObject({
    vcpus: z.int().min(1).max(64),
    memMib: z.int().min(128).max(262_144),
    diskMib: z.int().min(64).max(65_536),
  }),
  egress: z.array(z.string().max(300)).max(MAX_EGRESS_ENTRIES).readonly(),
  tiers: z.strictObject({ idleMs: durationSchema, ttlMs: durationSchema }),
});

const endSchema = z.strictObject({
  as: z.enum(['closed', 'expired', 'deleted']),
  at: isoTimeSchema,
  cause: z.string().max(500),
  lastTurn: z.int().min(0),
});

/** `sessions/<project>/<thread>/session.json`. */
export const sessionRecordSchema = z.strictObject({
  schemaVersion: z.literal(1),
  project: projectSchema,
  thread: threadSchema,
  incarnation: incarnationSchema,
  settings: settingsSchema,
  createdAt: isoTimeSchema,
  end: endSchema.exactOptional(),
});

const _record: Same<z.infer<typeof sessionRecordSchema>, SessionRecord> = true;

const KEY_BYTES = 32;

/** `<n>/key.json`: what seals the messages of one incarnation. Deleting it deletes what histories hold of them. */
export const sessionKeySchema = z.strictObject({
  schemaVersion: z.literal(1),
  key: z.base64().refine((text) => Buffer.from(text, 'base64').length === KEY_BYTES, `must be ${KEY_BYTES} bytes`),
});
