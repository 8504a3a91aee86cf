import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { KilnError } from '../../../domain/failures.ts';
import { mustRun, runCommand } from '../../../linux/run-command.ts';
import { type AsRoot, isInUserNamespace } from './as-root.ts';
import type { Recipe } from './recipe.ts';

/**
 * Installs a minimal Debian into a new directory, from the package sources that this machine's apt uses.
 * @param workDirectory for the list of sources
 * @param target must not exist or be empty; owned by root afterwards
 * @throws UNSUPPORTED where mmdebstrap is missing, DISK_FULL, INTERNAL with the end of its output
 */
export async function installDebian(
  recipe: Recipe,
  workDirectory: string,
  target: string,
  asRoot: AsRoot,
): Promise<void> {
  const sources = await debianSources(recipe.suite);
  const sourceArguments: string[] = [];
  if (sources.length > 0) {
    const path = join(workDirectory, 'sources.list');
    await writeFile(path, `${sources.join('\n')}\n`);
    sourceArguments.push(path);
  }
  const aptOptions = ['Apt::Install-Recommends "false"', 'Acquire::Languages "none"', ...(await transportOptions())];
  const what = [
    '--quiet',
    '--variant=minbase',
    `--include=${recipe.packages.join(',')}`,
    ...aptOptions.map((option) => `--aptopt=${option}`),
    ...recipe.exclude.map((glob) => `--dpkgopt=path-exclude=${glob}`),
  ];
  const where = (path: string) => [recipe.suite, path, ...sourceArguments];
  if (isInUserNamespace(asRoot)) return installByTar(join(workDirectory, 'tree.tar'), target, asRoot, { what, where });
  await mustRun([
    ...asRoot,
    // Its mounts must end with it in every case: the tree is removed recursively afterwards.
    ...['unshare', '--mount', '--propagation', 'private'],
    ...['mmdebstrap', '--mode=root', '--format=directory', ...what, ...where(target)],
  ]);
}

/** mmdebstrap makes its own namespace with other ids; a tar holds only the final ids. */
async function installByTar(
  tar: string,
  target: string,
  asRoot: AsRoot,
  { what, where }: { what: readonly string[]; where: (path: string) => readonly string[] },
): Promise<void> {
  await mustRun(['mmdebstrap', '--mode=unshare', '--format=tar', ...what, ...where(tar)]);
  await mustRun([...asRoot, 'mkdir', '-p', target]);
  // Only root can make devices; the guest gets its devices from its kernel.
  await mustRun([...asRoot, 'tar', '-C', target, '--exclude=./dev/*', '-xf', tar]);
  await rm(tar);
}

/** @returns `sources.list` lines for the suite and its updates as configured here; empty = mmdebstrap's own choice. */
async function debianSources(suite: string): Promise<string[]> {
  const format = '$(ORIGIN)|$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)';
  const { code, stdout } = await runCommand(['apt-get', 'indextargets', '--format', format]);
  if (code !== 0) return [];
  const lines = stdout.split('\n').flatMap((line) => {
    const [origin, kind, uri, release, component] = line.split('|');
    if (origin !== 'Debian' || kind !== 'Packages' || component !== 'main') return [];
    if (uri === undefined || release === undefined) return [];
    const ours = [suite, `${suite}-updates`, `${suite}-security`].includes(release);
    return ours ? [`deb ${uri} ${release} main`] : [];
  });
  return lines.some((line) => line.endsWith(` ${suite} main`)) ? [...new Set(lines)] : [];
}

/** @returns the proxy and certificate settings of this machine's apt, which a private apt would not know. */
async function transportOptions(): Promise<string[]> {
  const { code, stdout } = await runCommand(['apt-config', 'dump']);
  if (code !== 0) return [];
  return stdout
    .split('\n')
    .filter(isTransportOption)
    .map((line) => line.replace(/;$/, ''));
}

const TRANSPORTS = ['http', 'https'];
const OPTIONS = ['proxy', 'proxy-auto-detect', 'cainfo', 'capath', 'no-proxy', 'autodetect'];

/** A line names its option as `Acquire::http::Proxy "…"`, or with the name of a server before it. */
function isTransportOption(line: string): boolean {
  const [name = ''] = line.toLowerCase().split(' ');
  const [first, transport = '', ...parts] = name.split('::');
  return first === 'acquire' && TRANSPORTS.includes(transport) && parts.some((part) => OPTIONS.includes(part));
}

/**
 * Downloads the newest kernel package that `metaPackage` stands for and unpacks it. Needs no privileges, but apt's
 * package lists. If the download fails, they are fetched again, and that needs root.
 * @returns path of the unpacked tree and the kernel release, e.g. `6.1.0-56-cloud-amd64`
 * @throws INTERNAL where apt knows no such package
 */
export async function unpackKernelPackage(
  metaPackage: string,
  workDirectory: string,
  asRoot: AsRoot,
): Promise<{ tree: string; release: string }> {
  let packageName: string;
  try {
    packageName = await downloadKernel(metaPackage, workDirectory);
  } catch (error) {
    // The machine's package lists belong to root.
    if (isInUserNamespace(asRoot)) throw error;
    await mustRun([...asRoot, 'apt-get', 'update', '-q']);
    packageName = await downloadKernel(metaPackage, workDirectory);
  }
  const tree = join(workDirectory, 'kernel-tree');
  await mustRun(['dpkg', '-x', join(workDirectory, 'kernel.deb'), tree]);
  return { tree, release: packageName.replace(/^linux-image-/, '') };
}

async function downloadKernel(metaPackage: string, directory: string): Promise<string> {
  const listing = await mustRun(['apt-cache', 'depends', '--important', metaPackage]);
  const packageName = /Depends: (linux-image-[a-z0-9+.-]+)/.exec(listing)?.[1];
  if (packageName === undefined) {
    throw new KilnError('INTERNAL', `apt knows no kernel behind ${metaPackage}: run \`apt-get update\` as root`, {
      metaPackage,
    });
  }
  // `_apt` cannot write into a private directory; apt warns on every download but works.
  await mustRun(['apt-get', 'download', '-q', packageName], { cwd: directory });
  await mustRun(['sh', '-c', 'mv -- linux-image-*.deb kernel.deb'], { cwd: directory });
  return packageName;
}
