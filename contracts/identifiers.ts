/** Schemas of the names and small values that many bodies share. */
import { z } from 'zod';
import { PRIORITIES } from '../domain/capacity/priority.ts';
import { FAILURES, type FailureCode } from '../domain/failures.ts';
import {
  DEFAULT_PROJECT,
  DIGEST_PATTERN,
  HOST_ID_PATTERN,
  IMAGE_NAME_PATTERN,
  IMAGE_TAG_PATTERN,
  PROJECT_ID_PATTERN,
  RUN_ID_PATTERN,
  THREAD_PATTERN,
  WORKLOAD_ID_PATTERN,
} from '../domain/names.ts';
import { STAGES } from '../domain/workload/stages.ts';

const idRule = 'must be 1 to 40 characters of a-z, 0-9 and -';

export const workloadIdSchema = z.string().regex(WORKLOAD_ID_PATTERN, idRule).meta({ example: 'hello-1' });
export const deploymentIdSchema = z.string().regex(WORKLOAD_ID_PATTERN, idRule);
export const projectIdSchema = z.string().regex(WORKLOAD_ID_PATTERN, idRule);
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
export const hostIdSchema = z.string().regex(HOST_ID_PATTERN, idRule);
export const digestSchema = z.string().regex(DIGEST_PATTERN, 'must be sha256: and 64 hex digits');
export const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hex digits');
export const imageNameSchema = z
  .string()
  .regex(IMAGE_NAME_PATTERN, 'must be 1 to 40 characters of a-z, 0-9 and -, not beginning with -');
export const imageTagSchema = z.string().regex(IMAGE_TAG_PATTERN, 'must be 1 to 64 characters of A-Z, a-z, 0-9, . _ -');

/** `name`, `name:tag` or `name@sha256:…`. */
export const imageReferenceSchema = z
  .string()
  .max(160)
  .regex(
    /^[a-z0-9][a-z0-9-]{0,39}(:[A-Za-z0-9][A-Za-z0-9._-]{0,63}|@sha256:[0-9a-f]{64})?$/,
    'must be name, name:tag or name@sha256:<64 hex digits>',
  )
  .meta({ example: 'node' });

export const stageSchema = z.enum(STAGES);
export const isoTimeSchema = z.iso.datetime();
/** 1 goes first. */
export const prioritySchema = z.literal(PRIORITIES);

export const portSchema = z.int().min(1).max(65_535);

const codes = Object.keys(FAILURES) as [FailureCode, ...FailureCode[]];
export const failureCodeSchema = z.enum(codes);

/** Uploaded sources by the digest of their tar. */
export const sourceRefSchema = z.strictObject({ sha256: sha256Schema });

/** Longest path of a service, UTF-16 units. */
export const MAX_SERVICE_PATH = 512;

/** A folder below the project root: relative, never upwards, no control characters. */
export const servicePathSchema = z
  .string()
  .min(1, 'must not be empty')
  .max(MAX_SERVICE_PATH)
  .regex(/^[^\u0000-\u001f\u007f\\]+$/, 'must hold no control characters and no backslash')
  .refine(
    (path) => !path.startsWith('/') && !path.split('/').includes('..'),
    'must be relative to the project root and must not contain ..',
  )
  .meta({ example: 'services/hello' });
