/**
 * Messages between a host and the process that reads strangers' folders: one JSON object a line, one request at a time.
 * The reader has read a stranger's data, so every reply is limited and checked as if the stranger had written it.
 */
import { z } from 'zod';
import type { FailureCode } from '../../domain/failures.ts';
import { LANGUAGES, type ServiceManifest } from '../../domain/workload/workload.ts';
import type { Same } from '../same-type.ts';
import { resourcesSchema } from './resources.ts';
import { MAX_CONFIG_BYTES } from './service-manifest.ts';

/** Longest reply, bytes of its line: a pyproject.toml may name 1000 requirements of 2048 characters. */
export const MAX_REPLY_BYTES = 4 * 1024 * 1024;
export const MAX_FAILURE_MESSAGE = 4096;
export const MAX_DETAIL = 1500;
export const MAX_DETAIL_LIST = 32;

const path = z.string().min(1).max(4096);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const request = z.strictObject({
  id: z.int().min(1),
  /** Absolute path of the folder that holds the service. */
  root: path,
  /** Path of the service below it, as the caller named it. */
  servicePath: z.string().max(8192),
  /** A tar to unpack to `root` first; `root` must not exist yet. */
  tarPath: path.exactOptional(),
  /** Of the sources: bytes of their tar; files, folders and links. */
  limits: z.strictObject({ maxBytes: z.int().min(1), maxEntries: z.int().min(1) }),
});

export const inspectionRequestSchema = z.discriminatedUnion('act', [
  request.extend({ act: z.literal('inspect') }),
  /** `packedPath`: the tar to make; it must not exist yet. */
  request.extend({ act: z.literal('pack'), packedPath: path }),
]);
export type InspectionRequest = z.infer<typeof inspectionRequestSchema>;

const command = z.string().max(MAX_CONFIG_BYTES);
const words = (maxLength: number, max: number) => z.array(z.string().max(maxLength)).max(max).readonly();

const manifestSchema = z.strictObject({
  language: z.enum(LANGUAGES),
  hooks: z.strictObject({ preBuild: command.exactOptional(), build: command.exactOptional(), start: command }),
  outputs: words(1024, 300),
  envRequired: words(256, 256),
  health: z.strictObject({
    path: z.string().max(2048).exactOptional(),
    intervalMs: z.int(),
    timeoutMs: z.int(),
    failures: z.int(),
    startPeriodMs: z.int(),
  }),
  resources: resourcesSchema,
  egress: words(320, 256),
  installs: z.boolean(),
  requirements: words(2048, 1000).exactOptional(),
  lockFile: z.string().max(255).exactOptional(),
});
const _manifest: Same<z.infer<typeof manifestSchema>, ServiceManifest> = true;

/** Codes that the content of a folder may cause. A reply with any other code is not believed. */
export const FOLDER_FAILURES = [
  'SPEC_INVALID',
  'SERVICE_NOT_FOUND',
  'MANIFEST_MISSING',
  'CONFIG_INVALID',
  'DEPENDENCY_UNDECLARED',
  'PAYLOAD_TOO_LARGE',
] as const satisfies readonly FailureCode[];

const detail = z.union([
  z.string().max(MAX_DETAIL),
  z.number(),
  z.boolean(),
  z.array(z.string().max(MAX_DETAIL)).max(MAX_DETAIL_LIST),
]);

const id = z.int().min(1);

export const inspectionReplySchema = z.discriminatedUnion('kind', [
  /** Sent once, at the start. `dataBytes`: private memory of the process, as the kernel counts it. */
  z.strictObject({ kind: z.literal('ready'), dataBytes: z.int().min(0) }),
  z.strictObject({ kind: z.literal('inspected'), id, manifest: manifestSchema }),
  z.strictObject({
    kind: z.literal('packed'),
    id,
    sha256,
    bytes: z.int().min(0),
    /** Of the service's package-lock.json, where it has one. */
    lockSha256: sha256.exactOptional(),
  }),
  z.strictObject({
    kind: z.literal('refused'),
    id,
    code: z.enum(FOLDER_FAILURES),
    message: z.string().max(MAX_FAILURE_MESSAGE),
    details: z.record(z.string().max(64), detail),
  }),
  /** It needed more memory, or a deeper stack, than allowed. */
  z.strictObject({ kind: z.literal('exhausted'), id }),
  /** A failure that no folder has caused. `errno`: the code of a system error, e.g. `ENOSPC`. */
  z.strictObject({
    kind: z.literal('failed'),
    id,
    message: z.string().max(MAX_FAILURE_MESSAGE),
    errno: z.string().max(64).exactOptional(),
  }),
]);
export type InspectionReply = z.infer<typeof inspectionReplySchema>;
/** A reply to a request. */
export type InspectionAnswer = Exclude<InspectionReply, { kind: 'ready' }>;
