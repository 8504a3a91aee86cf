/** What requirements.txt and pyproject.toml say about a Python service. */
import { join } from 'node:path';
import { parse as parseToml, TomlError } from 'smol-toml';
import {
  PYPROJECT_FILE,
  type Pyproject,
  pyprojectSchema,
  REQUIREMENTS_FILE,
  readRequirements,
} from '../../contracts/service/python-packages.ts';
import {
  MAX_CONFIG_BYTES,
  MAX_LOCK_BYTES,
  SERVICE_CONFIG_FILE,
  type ServiceConfig,
} from '../../contracts/service/service-manifest.ts';
import { KilnError } from '../../domain/failures.ts';
import { PYTHON_ENVIRONMENT } from '../../domain/workload/workload.ts';
import { parseConfig, readConfigText } from './config-file.ts';
import type { LanguagePart } from './nodejs-service.ts';
import { assertStartFile, isFileOrLink } from './start-file.ts';

/** Without a start command, the first of these files that exists is run. */
const START_FILES = ['main.py', 'app.py'];

/** @throws CONFIG_INVALID */
export async function inspectPython(folder: string, config: ServiceConfig): Promise<LanguagePart> {
  const packages = await packagesOf(folder);
  return {
    hooks: await hooksOf(folder, config),
    ...packages,
    alwaysNeeded: packages.installs ? [PYTHON_ENVIRONMENT] : [],
  };
}

/** A requirements.txt overrides a pyproject.toml: tools that pin versions write it next to that file. */
async function packagesOf(folder: string): Promise<Pick<LanguagePart, 'installs' | 'lockFile' | 'requirements'>> {
  const text = await readConfigText(folder, REQUIREMENTS_FILE, MAX_LOCK_BYTES);
  if (text !== undefined) {
    const { installs, locked } = readRequirements(text);
    return { installs, ...(locked ? { lockFile: REQUIREMENTS_FILE } : {}) };
  }
  const toml = await readConfigText(folder, PYPROJECT_FILE, MAX_CONFIG_BYTES);
  if (toml === undefined) return { installs: false };
  const requirements = requirementsOf(parseConfig(parsePyproject(toml), PYPROJECT_FILE, pyprojectSchema));
  return requirements.length === 0 ? { installs: false } : { installs: true, requirements };
}

function parsePyproject(text: string): unknown {
  try {
    return parseToml(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const what = error.message.split('\n')[0] ?? '';
    throw new KilnError(
      'CONFIG_INVALID',
      `${PYPROJECT_FILE} is no valid TOML: ${what} (line ${error.line}, column ${error.column})`,
      { file: PYPROJECT_FILE, line: error.line, column: error.column },
    );
  }
}

function requirementsOf({ project, tool }: Pyproject): readonly string[] {
  const elsewhere = project?.dynamic?.includes('dependencies') || (project === undefined && tool?.poetry !== undefined);
  if (!elsewhere) return project?.dependencies ?? [];
  throw new KilnError(
    'CONFIG_INVALID',
    `${PYPROJECT_FILE} does not list its dependencies under [project]: list them there, or export them to ${REQUIREMENTS_FILE}.`,
    { file: PYPROJECT_FILE },
  );
}

async function hooksOf(folder: string, { hooks = {} }: ServiceConfig): Promise<LanguagePart['hooks']> {
  if (hooks.start !== undefined) {
    const { start } = hooks;
    // A build may make the file; without a build it must exist already.
    if (hooks.build === undefined && hooks.preBuild === undefined) {
      await assertStartFile(folder, start, startFiles(start));
    }
    return { ...hooks, start };
  }
  for (const file of START_FILES) {
    if (await isFileOrLink(join(folder, file))) return { ...hooks, start: `python3 ${file}` };
  }
  throw new KilnError(
    'CONFIG_INVALID',
    `Nothing says how the service is started: give "hooks.start" in ${SERVICE_CONFIG_FILE}, or add ${START_FILES.join(' or ')}.`,
  );
}

/** Only commands of the plain form `python file.py` name a file that can be checked. */
function startFiles(start: string): string[] {
  const file = /^\s*python3?(?:\s+-[a-zA-Z])*\s+([\w@./+-]+\.py)\s*$/.exec(start)?.[1];
  return file === undefined ? [] : [file];
}
