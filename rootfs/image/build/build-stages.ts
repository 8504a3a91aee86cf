import { chmod, copyFile, cp, mkdir, open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { KilnError } from '../../../domain/failures.ts';
import { readTextIfThere } from '../../../linux/read-text.ts';
import { mustRun } from '../../../linux/run-command.ts';
import { makeExt4 } from '../../make-ext4.ts';
import { hashFile, type ImageFile, type ImageFileName, imageFileSchema } from '../manifest.ts';
import type { AsRoot } from './as-root.ts';
import { type CpioEntry, packCpio } from './cpio.ts';
import { installDebian, unpackKernelPackage } from './debian-tree.ts';
import { resolveModules } from './kernel-modules.ts';
import type { Recipe } from './recipe.ts';
import { findKernelPayload } from './vmlinux.ts';

const hashRecordSchema = z.record(z.string(), imageFileSchema);

/** Fills `directory` with `vmlinux`, `modules/*.ko`, `modules/order` and `release`. */
export async function buildKernelStage(recipe: Recipe, directory: string, asRoot: AsRoot): Promise<void> {
  const work = join(directory, '.work');
  await mkdir(work);
  const { tree, release } = await unpackKernelPackage(recipe.kernelPackage, work, asRoot);
  const bzImage = await readFile(join(tree, 'boot', `vmlinuz-${release}`));
  const { offset, length, unpack } = findKernelPayload(bzImage);
  await writeFile(join(work, 'payload'), bzImage.subarray(offset, offset + length));
  // The kernel's size follows the packed kernel; lz4 reports it as a broken block, after it has written everything.
  await mustRun(['sh', '-c', `${unpack.join(' ')} < payload > vmlinux || test -s vmlinux`], { cwd: work });
  await checkElf(join(work, 'vmlinux'));
  await rename(join(work, 'vmlinux'), join(directory, 'vmlinux'));

  await mkdir(join(directory, 'modules'));
  const modules = await resolveModules(join(tree, 'lib', 'modules', release), recipe.modules);
  for (const { path } of modules) await copyFile(path, join(directory, 'modules', basename(path)));
  await writeFile(join(directory, 'modules', 'order'), modules.map(({ path }) => `${basename(path)}\n`).join(''));
  await writeFile(join(directory, 'release'), release);
  await rm(work, { recursive: true });
  await recordHashes(directory, ['vmlinux']);
}

async function checkElf(path: string): Promise<void> {
  const { bytes } = await hashFile(path);
  const magic = (await readFile(path)).subarray(0, 4).toString('latin1');
  if (magic !== '\x7fELF' || bytes < 1 << 20) {
    throw new KilnError('CONFIG_INVALID', 'the unpacked kernel is no ELF file', { bytes });
  }
}

export interface NodeParts {
  /** The Node binary that goes into the image. */
  readonly nodeBinary: string;
}

/** Name of the Debian package, and of the file beside a root file system that keeps its version. */
const PYTHON_PACKAGE = 'python3';

/** Fills `directory` with `rootfs.ext4`: Debian, and Node with npm where the recipe asks for them. */
export async function buildRootfsStage(
  recipe: Recipe,
  parts: NodeParts,
  directory: string,
  asRoot: AsRoot,
): Promise<void> {
  const work = join(directory, '.work');
  await mkdir(work);
  const tree = join(work, 'tree');
  try {
    await installDebian(recipe, work, tree, asRoot);
    if (recipe.npm !== undefined) await installNode(recipe.npm, parts, work, tree, asRoot);
    if (recipe.packages.includes(PYTHON_PACKAGE)) await noteVersion(PYTHON_PACKAGE, tree, directory);
    for (const path of recipe.prune) await mustRun([...asRoot, 'rm', '-rf', join(tree, path)]);
    for (const path of recipe.directories) await mustRun([...asRoot, 'mkdir', '-p', join(tree, path)]);
    await makeExt4(join(directory, 'rootfs.ext4'), recipe.rootfsMib, { asRoot, contents: tree });
  } finally {
    await mustRun([...asRoot, 'rm', '-rf', work]);
  }
  await recordHashes(directory, ['rootfs.ext4']);
}

async function noteVersion(packageName: string, tree: string, directory: string): Promise<void> {
  const query = ['dpkg-query', `--admindir=${join(tree, 'var/lib/dpkg')}`, '-W', '-f', '$' + '{Version}', packageName];
  await writeFile(join(directory, packageName), (await mustRun(query)).trim());
}

/** @returns the version of Python in a finished root file system, undefined where it has none. */
export function pythonVersionOf(directory: string): Promise<string | undefined> {
  return readTextIfThere(join(directory, PYTHON_PACKAGE));
}

type NpmPin = NonNullable<Recipe['npm']>;

async function installNode(npm: NpmPin, parts: NodeParts, work: string, tree: string, asRoot: AsRoot): Promise<void> {
  const overlay = join(work, 'overlay');
  const npmHome = join(overlay, 'usr/local/lib/node_modules/npm');
  await mkdir(npmHome, { recursive: true });
  await mkdir(join(overlay, 'usr/local/bin'), { recursive: true });
  await cp(parts.nodeBinary, join(overlay, 'usr/local/bin/node'));
  await chmod(join(overlay, 'usr/local/bin/node'), 0o755);
  await unpackNpm(npm, work, npmHome);
  for (const name of ['npm', 'npx']) {
    await mustRun(['ln', '-s', `../lib/node_modules/npm/bin/${name}-cli.js`, join(overlay, 'usr/local/bin', name)]);
  }
  for (const path of ['docs', 'man']) await rm(join(npmHome, path), { recursive: true, force: true });
  await mustRun([...asRoot, 'cp', '-a', '--no-preserve=ownership', `${overlay}/.`, tree]);
}

const packListSchema = z.array(z.object({ filename: z.string(), integrity: z.string() })).length(1);

/** npm comes from the registry of this machine's client configuration; the recipe pins what it has to be. */
async function unpackNpm({ version, integrity }: NpmPin, work: string, target: string): Promise<void> {
  const listing = await mustRun(['npm', 'pack', `npm@${version}`, '--json', '--loglevel=error'], { cwd: work });
  const [packed] = packListSchema.parse(JSON.parse(listing));
  if (packed === undefined || packed.integrity !== integrity) {
    throw new KilnError('IMAGE_CORRUPT', `the registry's npm ${version} is not the pinned one`, {
      expected: integrity,
      found: packed?.integrity ?? null,
    });
  }
  await mustRun(['tar', '-xzf', join(work, packed.filename), '-C', target, '--strip-components=1', '--no-same-owner']);
}

/** Fills `directory` with `workspace.ext4`: empty, sparse. */
export async function buildWorkspaceStage(recipe: Recipe, directory: string): Promise<void> {
  await makeExt4(join(directory, 'workspace.ext4'), recipe.workspaceMib, { fixedSize: true });
  await recordHashes(directory, ['workspace.ext4']);
}

/** Fills `directory` with `initrd`: the agent as `/init`, the kernel modules and the order to load them in. */
export async function buildInitrdStage(kernelStage: string, agentPath: string, directory: string): Promise<void> {
  await writeFile(join(directory, 'initrd'), await packInitrd(kernelStage, agentPath));
  await recordHashes(directory, ['initrd']);
}

async function packInitrd(kernelStage: string, agentPath: string): Promise<Buffer> {
  const modulesDir = join(kernelStage, 'modules');
  const order = await readFile(join(modulesDir, 'order'));
  const entries: CpioEntry[] = ['dev', 'proc', 'sys', 'modules', 'newroot'].map((name) => ({
    kind: 'directory',
    name,
    mode: 0o755,
  }));
  // Without it PID 1 starts without stdin, stdout and stderr, and a panic of the agent would be invisible.
  entries.push({ kind: 'character-device', name: 'dev/console', mode: 0o600, major: 5, minor: 1 });
  entries.push({ kind: 'file', name: 'init', mode: 0o755, data: await readFile(agentPath) });
  for (const name of order.toString('utf8').split('\n')) {
    if (name === '') continue;
    entries.push({ kind: 'file', name: `modules/${name}`, mode: 0o644, data: await readFile(join(modulesDir, name)) });
  }
  entries.push({ kind: 'file', name: 'modules/order', mode: 0o644, data: order });
  return packCpio(entries);
}

const HASHES = 'hashes.json';

/** Hashing gigabytes takes seconds, so a stage's hashes are computed once and stored beside its files. */
async function recordHashes(directory: string, names: readonly ImageFileName[]): Promise<void> {
  const record: Record<string, ImageFile> = {};
  for (const name of names) record[name] = { name, ...(await hashFile(join(directory, name))) };
  for (const name of names) await makeDurable(join(directory, name));
  await writeFile(join(directory, HASHES), JSON.stringify(record));
}

/** The hashes describe what was written; after a crash, the disk must hold the same bytes. */
async function makeDurable(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.sync();
    await file.chmod(0o444);
  } finally {
    await file.close();
  }
}

/** @returns what `recordHashes` noted of a file in a finished stage. */
export async function recordedHash(directory: string, name: ImageFileName): Promise<ImageFile> {
  const record = hashRecordSchema.parse(JSON.parse(await readFile(join(directory, HASHES), 'utf8')));
  const entry = record[name];
  if (entry === undefined)
    throw new KilnError('IMAGE_CORRUPT', `${directory} has no hash of ${name}: remove the directory`);
  return entry;
}
