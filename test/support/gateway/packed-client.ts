/** The client package as users get it: built, packed, and installed into a project of its own. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { CHECKOUT } from '../../../config/checkout.ts';

const run = promisify(execFile);

/** An install may have to download packages that npm's cache does not hold. */
export const INSTALL_MS = 300_000;

/** Packages that were built before, each in a folder named by the code that it was built from. */
const KEPT = join(CHECKOUT, 'node_modules', '.kiln-packed-client');
const KEEP_MS = 24 * 60 * 60 * 1000;
/** All that the compiler and the build read, beside the folders of the compiler's settings. */
const FILES = ['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.client.json', 'client/README.md'];
const SCRIPTS = ['scripts/build-client.mjs', 'scripts/setup/places.mjs'];

/**
 * @param peers whether to install the peer dependencies as well, in the versions that Kiln is built with
 * @returns the folder of an otherwise empty project; remove it when done
 */
export async function installPackedClient({ peers }: { readonly peers: boolean }): Promise<string> {
  const packed = await packedClient();
  const project = await mkdtemp(join(tmpdir(), 'kiln-client-test-'));
  const tarball = (await readdir(packed)).find((name) => name.endsWith('.tgz')) ?? '';
  await writeFile(join(project, 'package.json'), JSON.stringify({ name: 'empty', private: true }));
  const packages = [join(packed, tarball), ...(peers ? await peersOf(join(packed, 'built')) : [])];
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', ...packages], { cwd: project });
  return project;
}

/** @returns a folder with the package, as a folder `built` and packed; built only if none is kept of the same code */
async function packedClient(): Promise<string> {
  const path = join(KEPT, await digestOfCode());
  if ((await readdir(KEPT).catch(() => [])).some((name) => path === join(KEPT, name))) return path;
  await mkdir(KEPT, { recursive: true });
  await removeOld();
  const draft = await mkdtemp(join(KEPT, 'draft-'));
  const built = join(draft, 'built');
  await run(process.execPath, ['scripts/build-client.mjs', '--out', built], { cwd: CHECKOUT });
  await run('npm', ['pack', '--silent', '--pack-destination', draft], { cwd: built });
  // Where another test has been quicker, its package is the same.
  await rename(draft, path).catch(() => rm(draft, { recursive: true }));
  return path;
}

async function removeOld(): Promise<void> {
  for (const name of await readdir(KEPT)) {
    const path = join(KEPT, name);
    if (Date.now() - (await stat(path)).mtimeMs > KEEP_MS) await rm(path, { recursive: true, force: true });
  }
}

async function digestOfCode(): Promise<string> {
  const settings = z.object({ include: z.array(z.string()) });
  const { include } = settings.parse(JSON.parse(await readFile(join(CHECKOUT, 'tsconfig.json'), 'utf8')));
  const below = await Promise.all(
    include
      .filter((folder) => folder !== 'test' && folder !== 'scripts')
      .map(async (folder) => {
        const names = await readdir(join(CHECKOUT, folder), { recursive: true });
        return names.filter((name) => name.endsWith('.ts')).map((name) => join(folder, name));
      }),
  );
  const names = [...below.flat(), ...FILES, ...SCRIPTS].sort();
  const texts = await Promise.all(names.map((name) => readFile(join(CHECKOUT, name), 'utf8')));
  return createHash('sha256')
    .update(JSON.stringify([names, texts]))
    .digest('hex');
}

async function peersOf(built: string): Promise<string[]> {
  const manifest = z.object({ peerDependencies: z.record(z.string(), z.string()) });
  const { peerDependencies } = manifest.parse(JSON.parse(await readFile(join(built, 'package.json'), 'utf8')));
  return Object.entries(peerDependencies).map(([name, range]) => `${name}@${range.slice('^'.length)}`);
}
