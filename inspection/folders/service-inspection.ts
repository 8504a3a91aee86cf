/** What a service folder declares: kiln.json, the files of its language, or both, as one manifest with defaults. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { PYPROJECT_FILE, REQUIREMENTS_FILE } from '../../contracts/service/python-packages.ts';
import {
  egressEntryOf,
  MAX_CONFIG_BYTES,
  PACKAGE_FILE,
  SERVICE_CONFIG_FILE,
  type ServiceConfig,
  serviceConfigSchema,
} from '../../contracts/service/service-manifest.ts';
import { KilnError } from '../../domain/failures.ts';
import { DEFAULT_HEALTH, type Language, type ServiceManifest } from '../../domain/workload/workload.ts';
import { readConfigFile } from './config-file.ts';
import { inspectNode, type LanguagePart } from './nodejs-service.ts';
import { inspectPython } from './python-service.ts';
import { printable } from './service-folder.ts';
import { isFileOrLink } from './start-file.ts';

/**
 * @param folder real absolute path of the service
 * @param servicePath as the caller named it, for messages
 * @throws MANIFEST_MISSING, CONFIG_INVALID, DEPENDENCY_UNDECLARED
 */
export async function inspectService(folder: string, servicePath: string): Promise<ServiceManifest> {
  const file = await readConfigFile(folder, SERVICE_CONFIG_FILE, serviceConfigSchema, MAX_CONFIG_BYTES);
  const config = file?.value ?? {};
  const language = config.language ?? (await detectLanguage(folder));
  if (language === undefined && file === undefined) throw await manifestMissing(folder, servicePath);
  const { alwaysNeeded, ...part } = await inspectLanguage(folder, language ?? 'node', config);
  const outputs = config.outputs ?? [];
  return {
    language: language ?? 'node',
    outputs: outputs.length === 0 ? [] : [...new Set([...alwaysNeeded, ...outputs])],
    envRequired: [...new Set(config.env?.required ?? [])],
    health: { ...DEFAULT_HEALTH, ...config.health },
    resources: config.resources ?? {},
    egress: [...new Set((config.egress?.allow ?? []).map(egressEntryOf))],
    ...part,
  };
}

function inspectLanguage(folder: string, language: Language, config: ServiceConfig): Promise<LanguagePart> {
  if (language === 'node') return inspectNode(folder, config);
  if (language === 'python') return inspectPython(folder, config);
  return inspectHooks(config);
}

/** Without a language, only the hooks exist. */
async function inspectHooks({ hooks }: ServiceConfig): Promise<LanguagePart> {
  const { start } = hooks ?? {};
  if (start !== undefined) return { hooks: { ...hooks, start }, installs: false, alwaysNeeded: [] };
  throw new KilnError(
    'CONFIG_INVALID',
    `A service with "language": "none" is started by its hook: give "hooks.start" in ${SERVICE_CONFIG_FILE}.`,
  );
}

/** @returns undefined where no file shows it. @throws CONFIG_INVALID where the files show two languages */
async function detectLanguage(folder: string): Promise<Language | undefined> {
  const has = (name: string) => isFileOrLink(join(folder, name));
  const node = await has(PACKAGE_FILE);
  const python = (await has(REQUIREMENTS_FILE)) ? REQUIREMENTS_FILE : PYPROJECT_FILE;
  if (!(await has(python))) return node ? 'node' : undefined;
  if (!node) return 'python';
  throw new KilnError(
    'CONFIG_INVALID',
    `The service has ${PACKAGE_FILE} and ${python}: say which counts by "language": "node" or "python" in ${SERVICE_CONFIG_FILE}.`,
  );
}

async function manifestMissing(folder: string, servicePath: string): Promise<KilnError> {
  const names = await readdir(folder);
  const docker = names.find((name) => /^(?:Docker|Container)file$/i.test(name));
  const hint =
    docker === undefined
      ? ''
      : ` A ${docker} alone is not a manifest: Kiln runs no container images, it builds and starts the service itself.`;
  const files = [SERVICE_CONFIG_FILE, PACKAGE_FILE, REQUIREMENTS_FILE, PYPROJECT_FILE];
  return new KilnError(
    'MANIFEST_MISSING',
    `${printable(servicePath)} has none of ${files.join(', ')}; add one of them.${hint}`,
  );
}
