/** The client package as users get it: built, packed, and installed into a project of its own. */
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { CHECKOUT } from '../../../config/checkout.ts';

const run = promisify(execFile);

/** An install may have to download packages that npm's cache does not hold. */
export const INSTALL_MS = 300_000;

/**
 * @param packedIn a folder that this has returned before: its package is installed again and not built anew
 * @param peers whether to install the peer dependencies as well, in the versions that Kiln is built with
 * @returns the folder of an otherwise empty project; remove it when done
 */
export async function installPackedClient(options: {
  readonly peers: boolean;
  readonly packedIn?: string;
}): Promise<string> {
  const project = await mkdtemp(join(tmpdir(), 'kiln-client-test-'));
  const { peers, packedIn = project } = options;
  const built = join(packedIn, 'built');
  if (packedIn === project) {
    await run(process.execPath, ['scripts/build-client.mjs', '--out', built], { cwd: CHECKOUT });
    await run('npm', ['pack', '--silent', '--pack-destination', project], { cwd: built });
  }
  const tarball = (await readdir(packedIn)).find((name) => name.endsWith('.tgz')) ?? '';
  await writeFile(join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true }));
  const packages = [join(packedIn, tarball), ...(peers ? await peersOf(built) : [])];
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', ...packages], { cwd: project });
  return project;
}

async function peersOf(built: string): Promise<string[]> {
  const manifest = z.object({ peerDependencies: z.record(z.string(), z.string()) });
  const { peerDependencies } = manifest.parse(JSON.parse(await readFile(join(built, 'package.json'), 'utf8')));
  return Object.entries(peerDependencies).map(([name, range]) => `${name}@${range.slice('^'.length)}`);
}
