/** Where set-up finds and puts things. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SetupError } from './run.mjs';

export const projectRoot = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/** @returns the cache of built tools and images, shared by all checkouts of one user. */
export function cacheDirectory() {
  const { KILN_CACHE, XDG_CACHE_HOME } = process.env;
  return KILN_CACHE || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'kiln');
}

/** @returns the pinned Node, which runs everything but set-up itself. */
export function pinnedNode() {
  const arch = { x64: 'x64', arm64: 'arm64' }[process.arch];
  return join(projectRoot, 'node_modules', `node-linux-${arch}`, 'bin', 'node');
}

/** @returns the pinned Node, or throws with the fix where set-up has not run. */
export function requirePinnedNode() {
  const path = pinnedNode();
  if (!existsSync(path)) throw new SetupError('Node 24 is not installed in this checkout yet', 'npm run setup');
  return path;
}

/** The record of what set-up found and made: read by config/ and by the tests. */
export const setupRecordPath = join(projectRoot, 'node_modules', '.kiln-setup.json');
