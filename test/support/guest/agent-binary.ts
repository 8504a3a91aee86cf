import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { readEnvironment, stackPaths } from '../../../config/environment.ts';
import { agentKey } from '../../../scripts/agent-key.mjs';

const run = promisify(execFile);
const projectRoot = fileURLToPath(new URL('../../..', import.meta.url));

/**
 * The guest agent built from the sources of this checkout, as set-up builds it. Builds it in the same place if it is
 * missing, e.g. after an edit.
 * @returns its path
 */
export async function agentBinary(): Promise<string> {
  const { cacheDir } = stackPaths(readEnvironment(), process.getuid?.() ?? 0);
  const key = agentKey(projectRoot);
  const path = join(cacheDir, 'bin', `kiln-agent-${key}`);
  if (existsSync(path)) return path;
  await mkdir(join(cacheDir, 'bin'), { recursive: true });
  const temporary = `${path}.test-${process.pid}`;
  try {
    const flags = ['-trimpath', '-ldflags', `-s -w -X main.version=${key}`];
    await run('env', ['CGO_ENABLED=0', 'go', 'build', ...flags, '-o', temporary, '.'], {
      cwd: join(projectRoot, 'guest', 'agent'),
    });
    await rename(temporary, path);
  } finally {
    await rm(temporary, { force: true });
  }
  return path;
}
