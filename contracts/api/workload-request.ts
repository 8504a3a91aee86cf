/** What a caller may request, with a limit on every part. */
import { z } from 'zod';
import { RESERVED_GUEST_PORTS, type WorkloadRequest } from '../../domain/workload/workload.ts';
import {
  deploymentIdSchema,
  imageReferenceSchema,
  portSchema,
  prioritySchema,
  projectIdSchema,
  servicePathSchema,
  sourceRefSchema,
  workloadIdSchema,
} from '../identifiers.ts';
import type { Same } from '../same-type.ts';
import { resourcesSchema } from '../service/resources.ts';
import { healthSettingsSchema } from '../service/service-manifest.ts';

export const MAX_ENV_VARIABLES = 100;
/** Names and values together, UTF-16 units. */
export const MAX_ENV_LENGTH = 32 * 1024;

export const environmentSchema = z
  .record(
    z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'must be the name of an environment variable'),
    z
      .string()
      .max(MAX_ENV_LENGTH)
      .refine((value) => !value.includes('\0'), 'must not contain NUL'),
  )
  .refine((env) => Object.keys(env).length <= MAX_ENV_VARIABLES, `at most ${MAX_ENV_VARIABLES} variables`)
  .refine((env) => lengthOf(env) <= MAX_ENV_LENGTH, `names and values may have ${MAX_ENV_LENGTH} characters together`);

export const workloadRequestSchema = z.strictObject({
  deploymentId: deploymentIdSchema
    .exactOptional()
    .meta({ description: 'Must exist (POST /api/deployments) when the workload is new.' }),
  projectId: projectIdSchema.exactOptional(),
  servicePath: servicePathSchema.meta({
    description: 'Folder of the service, relative to the project root of the host, or to the root of `source`.',
  }),
  source: sourceRefSchema
    .exactOptional()
    .meta({ description: 'Sources that were uploaded before (POST /api/sources).' }),
  env: environmentSchema.exactOptional(),
  port: portSchema
    .refine(
      (port) => !RESERVED_GUEST_PORTS.includes(port),
      `must not be one of ${RESERVED_GUEST_PORTS.join(', ')}: the guest's own`,
    )
    .exactOptional()
    .meta({ description: 'Port in the guest that the service listens on; it is told by PORT. Default 8080.' }),
  hostPort: portSchema.exactOptional().meta({
    description: "Port wanted on the host, of the operator's range (KILN_HOST_PORTS); a free one of it where absent.",
  }),
  image: imageReferenceSchema.exactOptional(),
  resources: resourcesSchema.exactOptional(),
  priority: prioritySchema
    .exactOptional()
    .meta({ description: 'Who is served first where capacity is short: 1 before 5; default 3.' }),
  health: healthSettingsSchema.exactOptional(),
});

const _request: Same<z.infer<typeof workloadRequestSchema>, WorkloadRequest> = true;

/** Body of `POST /api/workloads`: the request and, optionally, the caller's own id for it. */
export const createWorkloadBodySchema = workloadRequestSchema
  .extend({
    id: workloadIdSchema.exactOptional().meta({
      description:
        "The caller's key: a second create with it and the same body answers for the same workload. A new one is the guest's host name, too: no hyphen at its ends.",
    }),
    servicePath: servicePathSchema.exactOptional().meta({
      description:
        'Folder of the service, relative to the project root of the host; with `source`, relative to its root (default ".").',
    }),
  })
  .refine(({ servicePath, source }) => servicePath !== undefined || source !== undefined, {
    path: ['servicePath'],
    message: 'must be given, unless "source" is',
  });
export type CreateWorkloadBody = z.infer<typeof createWorkloadBodySchema>;

/** @returns the request in a body. */
export function requestOf({ id: _, servicePath = '.', ...rest }: CreateWorkloadBody): WorkloadRequest {
  return { servicePath, ...rest };
}

function lengthOf(env: Readonly<Record<string, string>>): number {
  return Object.entries(env).reduce((sum, [name, value]) => sum + name.length + value.length, 0);
}
