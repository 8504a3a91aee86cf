/** What callers may ask of sessions, with a limit on every part. */
import { z } from 'zod';
import { imageReferenceSchema, projectSchema, runIdSchema, threadSchema } from '../identifiers.ts';
import { resourcesSchema } from '../service/resources.ts';
import { egressEntrySchema } from '../service/service-manifest.ts';
import { environmentSchema } from './workload-request.ts';

const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;
export const MAX_RUN_MS = DAY_MS;
export const MAX_TTL_MS = 365 * DAY_MS;
const MAX_EGRESS_ENTRIES = 100;
/** Of all arguments of a command together, UTF-16 units; Linux itself takes 128 KiB in one. */
const MAX_COMMAND_LENGTH = 256 * 1024;

const tiersSchema = z.strictObject({
  idleMs: z.int().min(1000).max(MAX_TTL_MS).exactOptional().meta({
    description: 'Without activity for so long, its VM may go. Default 15 minutes.',
  }),
  ttlMs: z.int().min(1000).max(MAX_TTL_MS).exactOptional().meta({
    description: 'Without activity for so long, the session expires. Default 30 days.',
  }),
});

const egressSchema = z.array(egressEntrySchema).max(MAX_EGRESS_ENTRIES).meta({
  description:
    'Names that its runs may reach: name, *.domain, with :port (443, 80, or as KILN_EGRESS_PRIVATE says). Default: none.',
});

export const sessionSettingsRequestSchema = z.strictObject({
  image: imageReferenceSchema.exactOptional(),
  resources: resourcesSchema.exactOptional(),
  egress: egressSchema.exactOptional(),
  tiers: tiersSchema.exactOptional(),
});
export type SessionSettingsRequest = z.infer<typeof sessionSettingsRequestSchema>;

const ifEndedSchema = z.literal('restart').exactOptional().meta({
  description: 'A thread whose session was closed or has expired gets a new one, with a new workspace.',
});

export const createSessionBodySchema = sessionSettingsRequestSchema.extend({
  thread: threadSchema,
  ifEnded: ifEndedSchema,
});
export type CreateSessionBody = z.infer<typeof createSessionBodySchema>;

/** Only these may change; a field that stays as it was created is named in the refusal. */
export const patchSessionBodySchema = z
  .strictObject({
    egress: egressSchema.exactOptional().meta({ description: 'In force at once.' }),
    tiers: tiersSchema.exactOptional().meta({ description: 'In force at once.' }),
    resources: resourcesSchema.exactOptional().meta({ description: 'In force at the next boot of its VM.' }),
  })
  .refine((body) => Object.keys(body).length > 0, 'give egress, tiers or resources')
  .meta({ minProperties: 1 });
export type PatchSession = z.infer<typeof patchSessionBodySchema>;

const argumentSchema = z.string().refine((text) => !text.includes('\0'), 'must not contain NUL');

export const runRequestBodySchema = z.strictObject({
  id: runIdSchema.exactOptional().meta({
    description:
      "The caller's key: the same id with the same body is one run, however often it is sent. Minted if absent.",
  }),
  command: z
    .array(argumentSchema)
    .min(1)
    .max(1024)
    .refine((words) => words.reduce((sum, word) => sum + word.length, 0) <= MAX_COMMAND_LENGTH, 'is too long')
    .meta({ description: 'Program and arguments, run in /workspace.', example: ['sh', '-c', 'echo hello'] }),
  env: environmentSchema.exactOptional(),
  timeoutMs: z.int().min(1).max(MAX_RUN_MS).exactOptional().meta({ description: 'Default one hour, at most a day.' }),
  repeatable: z.boolean().exactOptional().meta({
    description: 'It may run again where its VM was lost in the middle: at most twice. Default false.',
  }),
  ifEnded: ifEndedSchema,
});
export type RunRequestBody = z.infer<typeof runRequestBodySchema>;

/** What is sent to a thread: a command, or a message, for which sessions have no harness yet. */
export const sendRunBodySchema = runRequestBodySchema
  .extend({
    command: runRequestBodySchema.shape.command.exactOptional(),
    message: z.string().min(1).max(MAX_COMMAND_LENGTH).exactOptional().meta({
      description: 'For the harness of an agent. Not possible yet: UNSUPPORTED.',
    }),
  })
  .refine(({ command, message }) => command !== undefined || message !== undefined, {
    path: ['command'],
    message: 'is missing: give the program and its arguments',
  })
  .meta({ anyOf: [{ required: ['command'] }, { required: ['message'] }] });
export type SendRunBody = z.infer<typeof sendRunBodySchema>;

export const forkSessionBodySchema = z.strictObject({
  thread: threadSchema.meta({ description: 'Of the copy.' }),
  turn: z.int().min(1).exactOptional().meta({ description: 'Of which the copy has the files. Default: the last one.' }),
});

export const projectQuerySchema = projectSchema.exactOptional().meta({ description: 'Default `default`.' });
