/** What a service folder says of itself: kiln.json, package.json, or both, as one manifest with defaults filled in. */
import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  LOCK_FILE,
  MAX_CONFIG_BYTES,
  MAX_LOCK_BYTES,
  PACKAGE_FILE,
  type PackageManifest,
  packageLockSchema,
  packageManifestSchema,
  SERVICE_CONFIG_FILE,
  type ServiceConfig,
  serviceConfigSchema,
} from '../contracts/service-manifest.ts';
import { KilnError } from '../domain/failures.ts';
import { DEFAULT_HEALTH, type ServiceManifest } from '../domain/workload.ts';
import { readConfigFile } from './config-file.ts';
import { assertLockAgrees } from './lock-file.ts';
import { printable } from './service-folder.ts';

/**
 * @param folder real absolute path of the service
 * @param servicePath as the caller named it, for messages
 * @throws MANIFEST_MISSING, CONFIG_INVALID, DEPENDENCY_UNDECLARED
 */
export async function inspectService(folder: string, servicePath: string): Promise<ServiceManifest> {
  const config = await readConfigFile(folder, SERVICE_CONFIG_FILE, serviceConfigSchema, MAX_CONFIG_BYTES);
  const manifest = await readConfigFile(folder, PACKAGE_FILE, packageManifestSchema, MAX_CONFIG_BYTES);
  if (config === undefined && manifest === undefined) throw await manifestMissing(folder, servicePath);
  const lock = await readConfigFile(folder, LOCK_FILE, packageLockSchema, MAX_LOCK_BYTES);
  const installs = manifest !== undefined && declaresDependencies(manifest.value);
  if (installs && lock !== undefined) assertLockAgrees(manifest.value, lock.value);
  const hooks = await hooksOf(folder, config?.value ?? {}, manifest?.value ?? {});
  return {
    language: 'node',
    hooks,
    outputs: config?.value.outputs ?? [],
    envRequired: [...new Set(config?.value.env?.required ?? [])],
    health: { ...DEFAULT_HEALTH, ...config?.value.health },
    installs,
    ...(installs && lock !== undefined ? { lockFile: LOCK_FILE } : {}),
  };
}

async function manifestMissing(folder: string, servicePath: string): Promise<KilnError> {
  const names = await readdir(folder);
  const docker = names.find((name) => /^(?:Docker|Container)file$/i.test(name));
  const hint =
    docker === undefined
      ? ''
      : ` A ${docker} alone is not a manifest: Kiln runs no container images, it builds and starts the service itself.`;
  return new KilnError(
    'MANIFEST_MISSING',
    `${printable(servicePath)} has neither ${SERVICE_CONFIG_FILE} nor ${PACKAGE_FILE}; add one of them.${hint}`,
  );
}

function declaresDependencies(manifest: PackageManifest): boolean {
  return [manifest.dependencies, manifest.devDependencies, manifest.optionalDependencies].some(
    (names) => names !== undefined && Object.keys(names).length > 0,
  );
}

async function hooksOf(
  folder: string,
  config: ServiceConfig,
  manifest: PackageManifest,
): Promise<ServiceManifest['hooks']> {
  const { preBuild } = config.hooks ?? {};
  const build = config.hooks?.build ?? scriptOf(manifest, 'build');
  const start = config.hooks?.start ?? scriptOf(manifest, 'start') ?? (await mainOf(folder, manifest, build));
  // A build may make the file; without one it has to be there already.
  if (build === undefined && preBuild === undefined) await assertStartFile(folder, start);
  return {
    ...(preBuild === undefined ? {} : { preBuild }),
    ...(build === undefined ? {} : { build }),
    start,
  };
}

/** The script itself, since npm takes seconds to start in a guest; through npm only where it has hooks of its own. */
function scriptOf(manifest: PackageManifest, name: 'build' | 'start'): string | undefined {
  const scripts = manifest.scripts ?? {};
  const script = scripts[name];
  if (script === undefined || script.trim() === '') return undefined;
  return scripts[`pre${name}`] === undefined && scripts[`post${name}`] === undefined ? script : `npm run ${name}`;
}

async function mainOf(folder: string, manifest: PackageManifest, build: string | undefined): Promise<string> {
  if (manifest.main !== undefined) return `node ${quoted(manifest.main)}`;
  if (build !== undefined || (await isFile(join(folder, 'index.js')))) return 'node index.js';
  throw new KilnError(
    'CONFIG_INVALID',
    `Nothing says how the service is started: give "hooks.start" in ${SERVICE_CONFIG_FILE}, or "scripts.start" or "main" in ${PACKAGE_FILE}.`,
  );
}

/** Only commands of the plain form `node [options] file` name a file that can be checked. */
async function assertStartFile(folder: string, start: string): Promise<void> {
  const match = /^\s*node(?:\s+--?[\w-]+(?:=[^\s"'$`;&|<>]*)?)*\s+(?:'([^'\\]+)'|([\w@./+-]+))\s*$/.exec(start);
  const file = match?.[1] ?? match?.[2];
  if (file === undefined || file.startsWith('-') || file.startsWith('/')) return;
  for (const candidate of [file, `${file}.js`, join(file, 'index.js')]) {
    if (await isFile(join(folder, candidate))) return;
  }
  throw new KilnError(
    'CONFIG_INVALID',
    `The start command is "${printable(start)}", but there is no ${printable(file)}.`,
    {
      file,
    },
  );
}

function quoted(path: string): string {
  return /^[\w@./+-]+$/.test(path) ? path : `'${path.replaceAll("'", String.raw`'\''`)}'`;
}

async function isFile(path: string): Promise<boolean> {
  return lstat(path).then(
    (found) => found.isFile() || found.isSymbolicLink(),
    () => false,
  );
}
