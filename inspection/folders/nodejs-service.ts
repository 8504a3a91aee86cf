/** What package.json and package-lock.json say about a Node.js service. */

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
} from '../../contracts/service/service-manifest.ts';
import { defined } from '../../domain/defined.ts';
import { KilnError } from '../../domain/failures.ts';
import type { ServiceManifest } from '../../domain/workload/workload.ts';
import { readConfigFile } from './config-file.ts';
import { assertLockAgrees } from './npm-lock.ts';
import { assertStartFile, isFileOrLink } from './start-file.ts';

/** What a language adds to the manifest of a service. */
export interface LanguagePart {
  readonly hooks: ServiceManifest['hooks'];
  readonly installs: boolean;
  readonly lockFile?: string;
  readonly requirements?: readonly string[];
  /** What the running service always needs of the built folder, even if `outputs` does not name it. */
  readonly alwaysNeeded: readonly string[];
}

/** @throws CONFIG_INVALID, DEPENDENCY_UNDECLARED where package.json and its lock disagree */
export async function inspectNode(folder: string, config: ServiceConfig): Promise<LanguagePart> {
  const manifest = await readConfigFile(folder, PACKAGE_FILE, packageManifestSchema, MAX_CONFIG_BYTES);
  const lock = await readConfigFile(folder, LOCK_FILE, packageLockSchema, MAX_LOCK_BYTES);
  const installs = manifest !== undefined && declaresDependencies(manifest.value);
  if (installs && lock !== undefined) assertLockAgrees(manifest.value, lock.value);
  return {
    hooks: await hooksOf(folder, config, manifest?.value ?? {}),
    installs,
    ...(installs && lock !== undefined ? { lockFile: LOCK_FILE } : {}),
    alwaysNeeded: manifest === undefined ? [] : [PACKAGE_FILE],
  };
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
  // A build may make the file; without a build it must exist already.
  if (build === undefined && preBuild === undefined) await assertStartFile(folder, start, startFiles(start));
  return {
    ...defined({ preBuild, build }),
    start,
  };
}

/** The script itself, since npm takes seconds to start in a guest; through npm only where the script has npm hooks. */
function scriptOf(manifest: PackageManifest, name: 'build' | 'start'): string | undefined {
  const scripts = manifest.scripts ?? {};
  const script = scripts[name];
  if (script === undefined || script.trim() === '') return undefined;
  return scripts[`pre${name}`] === undefined && scripts[`post${name}`] === undefined ? script : `npm run ${name}`;
}

async function mainOf(folder: string, manifest: PackageManifest, build: string | undefined): Promise<string> {
  if (manifest.main !== undefined) return `node ${quotedPath(manifest.main)}`;
  if (build !== undefined || (await isFileOrLink(join(folder, 'index.js')))) return 'node index.js';
  throw new KilnError(
    'CONFIG_INVALID',
    `Nothing says how the service is started: give "hooks.start" in ${SERVICE_CONFIG_FILE}, or "scripts.start" or "main" in ${PACKAGE_FILE}.`,
  );
}

const OPTION = /^-[\w-]+(?:=[^\s"'$`;&|<>]*)?$/;
const PLAIN_FILE = /^[\w@./+-]+$/;

/**
 * Only commands of the plain form `node [options] file` name a file that can be checked. Checks word by word: one
 * pattern for the whole command would need exponential time to fail.
 */
function startFiles(start: string): string[] {
  const command = start.trim();
  const [words, file] = command.endsWith("'") ? quotedFile(command) : plainFile(command);
  const [program, ...options] = words;
  if (program !== 'node' || file === undefined || !options.every((word) => OPTION.test(word))) return [];
  return [file, `${file}.js`, join(file, 'index.js')];
}

/** @returns the words before the last one, and the last one where it is a plain name to a shell */
function plainFile(command: string): [string[], string | undefined] {
  const words = command.split(/\s+/);
  const file = words.pop() ?? '';
  return [words, PLAIN_FILE.test(file) ? file : undefined];
}

/** @returns the words before the last one, and that one without its quotes */
function quotedFile(command: string): [string[], string | undefined] {
  const begin = command.lastIndexOf("'", command.length - 2);
  const before = command.slice(0, Math.max(begin, 0));
  const file = command.slice(begin + 1, -1);
  const isWord = before.trimEnd() !== before && file !== '' && !file.includes('\\');
  return [before.trim().split(/\s+/), isWord ? file : undefined];
}

function quotedPath(path: string): string {
  return PLAIN_FILE.test(path) ? path : `'${path.replaceAll("'", String.raw`'\''`)}'`;
}
