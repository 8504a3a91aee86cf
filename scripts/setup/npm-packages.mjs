/** The npm packages of the lock file, which include the pinned Node. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pinnedNode, projectRoot } from './places.mjs';
import { mustRun, SetupError } from './run.mjs';

function packagesOf(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).packages ?? {};
  } catch {
    return undefined;
  }
}

/**
 * npm writes `node_modules/.package-lock.json` at the end of an installation, so it says what is really there, and is
 * absent after an interrupted one.
 */
function upToDate() {
  const wanted = packagesOf(join(projectRoot, 'package-lock.json'));
  const installed = packagesOf(join(projectRoot, 'node_modules', '.package-lock.json'));
  if (wanted === undefined || installed === undefined || !existsSync(pinnedNode())) return undefined;
  const names = Object.keys(wanted).filter((name) => name !== '');
  const same = (name) =>
    installed[name] === undefined
      ? wanted[name].optional === true
      : installed[name].integrity === wanted[name].integrity;
  return names.every(same) ? names.length : undefined;
}

export const npmPackages = {
  name: 'npm packages',

  async ready() {
    const count = upToDate();
    return count === undefined ? undefined : { text: `${count} as locked` };
  },

  async make(progress) {
    progress.doing('npm ci, about 1 min');
    await mustRun(['npm', 'ci', '--no-audit', '--no-fund'], { cwd: projectRoot, fix: 'npm ci' });
    if (!existsSync(pinnedNode())) {
      throw new SetupError(
        `npm did not install Node 24 for ${process.arch}: were optional packages left out?`,
        'npm ci --include=optional',
      );
    }
    return { text: 'installed as locked' };
  },
};
