import { z } from 'zod';
import type { HealthCheck } from '../domain/workload.ts';

/** The two files in a service's folder that say what it is: `kiln.json`, and `package.json` as npm knows it. */

export const SERVICE_CONFIG_FILE = 'kiln.json';
export const PACKAGE_FILE = 'package.json';
export const LOCK_FILE = 'package-lock.json';

/** Longest configuration or package file that is read, bytes. A lock file may be larger. */
export const MAX_CONFIG_BYTES = 1024 * 1024;
export const MAX_LOCK_BYTES = 32 * 1024 * 1024;

const command = z
  .string()
  .min(1, 'must not be empty')
  .max(8192)
  .refine((text) => !text.includes('\0'), 'must not contain NUL');

const milliseconds = z.int().min(1).max(3_600_000);

const relativePath = z.string().min(1).max(1024).refine(isInside, 'must be a path inside the service, relative to it');

/** Part of a health check; what is absent has the default. */
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

/** `kiln.json`. Unknown keys are refused: a misspelt hook that never runs is worse than an error. */
export const serviceConfigSchema = z.strictObject({
  $schema: z.string().exactOptional(),
  language: z.literal('node').exactOptional(),
  hooks: z
    .strictObject({
      preBuild: command.exactOptional(),
      build: command.exactOptional(),
      start: command.exactOptional(),
    })
    .exactOptional(),
  outputs: z.array(relativePath).max(256).exactOptional(),
  env: z
    .strictObject({
      required: z
        .array(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,255}$/, 'must be the name of an environment variable'))
        .max(256)
        .exactOptional(),
    })
    .exactOptional(),
  health: healthSettingsSchema.exactOptional(),
});

export type ServiceConfig = z.infer<typeof serviceConfigSchema>;

const versions = z.record(z.string().max(256), z.string().max(2048));

/** What Kiln reads of a package.json; npm owns the rest of it. */
export const packageManifestSchema = z.object({
  main: z.string().max(1024).exactOptional(),
  scripts: z.record(z.string(), z.string()).exactOptional(),
  dependencies: versions.exactOptional(),
  devDependencies: versions.exactOptional(),
  optionalDependencies: versions.exactOptional(),
});

export type PackageManifest = z.infer<typeof packageManifestSchema>;

/** What Kiln reads of a package-lock.json: versions 2 and 3 have `packages`, version 1 has only `dependencies`. */
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
