import { createHash } from 'node:crypto';
import { REQUIREMENTS_FILE } from '../../contracts/service/python-packages.ts';
import { PYTHON_ENVIRONMENT, type ServiceManifest } from '../../domain/workload/workload.ts';
import { SERVICE_FOLDER } from '../workload/guest-environment.ts';

/** Folder of the sources in a builder VM: the same as where they run, since builds write absolute paths into files. */
export const SOURCE_FOLDER = SERVICE_FOLDER;

const GUEST_PYTHON = '/usr/bin/python3';

export interface BuildStep {
  readonly name: string;
  readonly argv: readonly string[];
}

/** @returns the commands of a build in order; none where there is nothing to install and nothing to run. */
export function buildSteps(manifest: ServiceManifest): BuildStep[] {
  const steps = manifest.installs ? installSteps(manifest) : [];
  const { preBuild, build } = manifest.hooks;
  if (preBuild !== undefined) steps.push({ name: 'preBuild hook', argv: ['/bin/sh', '-c', preBuild] });
  if (build !== undefined) steps.push({ name: 'build', argv: ['/bin/sh', '-c', build] });
  return steps;
}

function installSteps({ language, lockFile, requirements }: ServiceManifest): BuildStep[] {
  if (language === 'python') {
    // The guest's own pip installs into it: a new pip in every environment takes half a minute. Both are called by
    // path, because the environment, which has no pip, comes first in the search path.
    const make = [GUEST_PYTHON, '-m', 'venv', '--without-pip', PYTHON_ENVIRONMENT];
    const install = [GUEST_PYTHON, '-m', 'pip', '--python', `${PYTHON_ENVIRONMENT}/bin/python3`, 'install'];
    const what = requirements ?? ['-r', REQUIREMENTS_FILE, ...(lockFile === undefined ? [] : ['--require-hashes'])];
    return [
      { name: 'virtual environment', argv: make },
      { name: 'pip install', argv: [...install, ...what] },
    ];
  }
  const how = lockFile === undefined ? 'install' : 'ci';
  const quiet = ['--no-audit', '--no-fund', '--no-update-notifier', '--loglevel=warn'];
  return [{ name: `npm ${how}`, argv: ['npm', how, ...quiet] }];
}

/**
 * Key of a build's output: everything that can change it. A build that installs without a lock file has no key, since
 * one key could then mean two different trees.
 */
export function buildCacheKey(facts: {
  manifest: ServiceManifest;
  sourceSha256: string;
  lockSha256: string | undefined;
  imageDigest: string;
  env: Readonly<Record<string, string>>;
  registries: string;
}): string | undefined {
  const { manifest } = facts;
  if (manifest.installs && manifest.lockFile === undefined) return undefined;
  const key = {
    format: 1,
    source: facts.sourceSha256,
    lock: facts.lockSha256 ?? null,
    image: facts.imageDigest,
    steps: buildSteps(manifest),
    outputs: [...manifest.outputs].sort(),
    env: Object.entries(facts.env).sort(([a], [b]) => (a < b ? -1 : 1)),
    registries: facts.registries,
  };
  return createHash('sha256').update(JSON.stringify(key)).digest('hex');
}
