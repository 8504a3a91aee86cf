/** Go programs, built once for each state of their sources and cached. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheDirectory } from './places.mjs';
import { mustRun, run, SetupError } from './run.mjs';

/** @returns where the program of that name and key lies in the cache. */
export function binaryPath(name, key) {
  return join(cacheDirectory(), 'bin', `${name}-${key}`);
}

/** @returns a key of a module that only pins other modules: its two files and the flags. */
export function moduleKey(directory, flags) {
  const hash = createHash('sha256');
  for (const name of ['go.mod', 'go.sum']) hash.update(readFileSync(join(directory, name))).update('\0');
  return hash
    .update([process.arch, ...flags].join('\0'))
    .digest('hex')
    .slice(0, 12);
}

/** Builds a static binary. It appears whole or not at all. @throws SetupError where Go is missing or the build fails */
export async function goBuild({ directory, packagePath, flags = [], output }) {
  if (existsSync(output)) return;
  if ((await run(['go', 'version'])).code !== 0) {
    throw new SetupError(
      'Go is not installed, or not on PATH: version 1.26.4 or newer is needed; then run set-up again',
    );
  }
  mkdirSync(join(output, '..'), { recursive: true });
  const temporary = `${output}.new-${process.pid}`;
  try {
    await mustRun(['go', 'build', '-trimpath', ...flags, '-o', temporary, packagePath], {
      cwd: directory,
      env: { CGO_ENABLED: '0' },
    });
    renameSync(temporary, output);
  } finally {
    rmSync(temporary, { force: true });
  }
}
