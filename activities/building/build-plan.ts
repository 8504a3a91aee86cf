import { createHash } from 'node:crypto';
import type { ServiceManifest } from '../../domain/workload.ts';

/** Folder of the sources in a builder VM. */
export const SOURCE_FOLDER = '/workspace/src';

export interface BuildStep {
  readonly name: string;
  readonly argv: readonly string[];
}

/** @returns the commands of a build in order; none where there is nothing to install and nothing to run. */
export function buildSteps(manifest: ServiceManifest): BuildStep[] {
  const steps: BuildStep[] = [];
  if (manifest.installs) {
    const how = manifest.lockFile === undefined ? 'install' : 'ci';
    steps.push({
      name: `npm ${how}`,
      argv: ['npm', how, '--no-audit', '--no-fund', '--no-update-notifier', '--loglevel=warn'],
    });
  }
  const { preBuild, build } = manifest.hooks;
  if (preBuild !== undefined) steps.push({ name: 'preBuild hook', argv: ['/bin/sh', '-c', preBuild] });
  if (build !== undefined) steps.push({ name: 'build', argv: ['/bin/sh', '-c', build] });
  return steps;
}

/**
 * Key of a build's output: everything that can change it. A build that installs without a lock file has none, since the
 * same key could then stand for two different trees.
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
  if (manifest.installs && facts.lockSha256 === undefined) return undefined;
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

/** @returns what of the built folder the running service needs, relative to it; empty = everything. */
export function outputPaths(manifest: ServiceManifest): string[] {
  return manifest.outputs.length === 0 ? [] : [...new Set(['package.json', ...manifest.outputs])];
}
