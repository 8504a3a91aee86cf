import { z } from 'zod';
import { parseEgressEntry, USUAL_EGRESS_PORTS } from '../../domain/egress/rules.ts';
import { type HealthCheck, LANGUAGES } from '../../domain/workload/workload.ts';
import { resourcesSchema } from './resources.ts';

/** The two files that describe a service: `kiln.json`, and npm's `package.json`. */

export const SERVICE_CONFIG_FILE = 'kiln.json';
export const PACKAGE_FILE = 'package.json';
export const LOCK_FILE = 'package-lock.json';

/** Longest configuration or package file accepted, bytes. A lock file may be larger. */
export const MAX_CONFIG_BYTES = 1024 * 1024;
export const MAX_LOCK_BYTES = 32 * 1024 * 1024;

const command = z
  .string()
  .min(1, 'must not be empty')
  .max(8192)
  .refine((text) => !text.includes('\0'), 'must not contain NUL');

const milliseconds = z.int().min(1).max(3_600_000);

const relativePath = z.string().min(1).max(1024).refine(isInside, 'must be a path inside the service, relative to it');

/** Part of a health check; absent parts have the default. */
export const healthSettingsSchema = z.strictObject({
  path: z
    .string()
    .max(2048)
    .regex(/^\/[\x21-\x7e]*$/, 'must begin with / and hold no blanks')
    .exactOptional(),
  intervalMs: milliseconds.exactOptional(),
  timeoutMs: milliseconds.exactOptional(),
  failures: z.int().min(1).max(1000).exactOptional(),
  startPeriodMs: milliseconds.exactOptional(),
}) satisfies z.ZodType<Partial<HealthCheck>>;

const DEFAULT_EGRESS_PORT = 443;

export const egressEntrySchema = z
  .string()
  .max(300)
  .refine((text) => {
    const entry = parseEgressEntry(egressEntryOf(text));
    return entry !== undefined && (!entry.wildcard || USUAL_EGRESS_PORTS.includes(entry.port));
  }, 'must be a name such as "api.example.com", "*.example.com" or "api.example.com:80"; the port is 443 (default), 80 or, for an exact name, one of KILN_EGRESS_PRIVATE, and addresses are refused');

/** @returns an entry of `egress.allow` with an explicit port. */
export function egressEntryOf(text: string): string {
  return text.includes(':') ? text : `${text}:${DEFAULT_EGRESS_PORT}`;
}

/** `kiln.json`. Unknown keys are refused: an error is better than a misspelt hook that never runs. */
export const serviceConfigSchema = z.strictObject({
  $schema: z.string().exactOptional(),
  language: z
    .enum(LANGUAGES, `must be one of ${LANGUAGES.join(', ')}`)
    .exactOptional()
    .meta({ description: 'Chooses the image, and how packages are installed. Absent: told by the files beside it.' }),
  hooks: z
    .strictObject({
      preBuild: command.exactOptional().meta({ description: 'Runs in the builder VM once packages are installed.' }),
      build: command.exactOptional().meta({ description: 'Runs in the builder VM after preBuild.' }),
      start: command.exactOptional().meta({ description: 'Starts the service, which listens on the port in PORT.' }),
    })
    .exactOptional()
    .meta({ description: 'Shell commands, run in the folder of the service.' }),
  outputs: z
    .array(relativePath)
    .max(256)
    .exactOptional()
    .meta({ description: 'What of the built folder the service needs to run. Absent or empty: all of it.' }),
  env: z
    .strictObject({
      required: z
        .array(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,255}$/, 'must be the name of an environment variable'))
        .max(256)
        .exactOptional()
        .meta({ description: 'Variables without which a workload is refused.' }),
    })
    .exactOptional(),
  health: healthSettingsSchema.exactOptional(),
  resources: resourcesSchema.exactOptional(),
  egress: z
    .strictObject({
      allow: z.array(egressEntrySchema).max(256).exactOptional().meta({
        description:
          'Names that the running service may reach: name, *.domain, with :port (443, 80, or as KILN_EGRESS_PRIVATE says).',
      }),
    })
    .exactOptional(),
});

export type ServiceConfig = z.infer<typeof serviceConfigSchema>;

const versions = z.record(z.string().max(256), z.string().max(2048));

/** The part of a package.json that Kiln reads; npm reads the rest. */
export const packageManifestSchema = z.object({
  main: z.string().max(1024).exactOptional(),
  scripts: z.record(z.string(), z.string()).exactOptional(),
  dependencies: versions.exactOptional(),
  devDependencies: versions.exactOptional(),
  optionalDependencies: versions.exactOptional(),
});

export type PackageManifest = z.infer<typeof packageManifestSchema>;

/** The part of a package-lock.json that Kiln reads: versions 2 and 3 have `packages`, version 1 only `dependencies`. */
export const packageLockSchema = z.object({
  lockfileVersion: z.int().exactOptional(),
  packages: z
    .record(
      z.string(),
      z.object({
        dependencies: versions.exactOptional(),
        devDependencies: versions.exactOptional(),
        optionalDependencies: versions.exactOptional(),
      }),
    )
    .exactOptional(),
  dependencies: z.record(z.string(), z.unknown()).exactOptional(),
});

export type PackageLock = z.infer<typeof packageLockSchema>;

function isInside(path: string): boolean {
  if (path.startsWith('/') || path.includes('\\') || path.includes('\0')) return false;
  return !path.split('/').includes('..');
}
