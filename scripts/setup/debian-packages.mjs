/** Programs that come from Debian. */
import { existsSync } from 'node:fs';
import { asRoot, mustRun, run, SetupError } from './run.mjs';

export const DEBIAN_PACKAGES = [
  'qemu-system-x86',
  'qemu-utils',
  'e2fsprogs',
  'mmdebstrap',
  'cpio',
  'lz4',
  'xz-utils',
  'zstd',
  'ca-certificates',
  // With it an ordinary user builds images as root of a user namespace.
  'uidmap',
];

/** What the tests and measurements need beyond that: a file system that shares blocks between files; see schemathesis.mjs. */
const TEST_PACKAGES = [...DEBIAN_PACKAGES, 'xfsprogs', 'python3-venv'];

/** @returns those of the packages that are not installed. */
async function missing(packages) {
  const { code, stdout } = await run([
    'dpkg-query',
    '-W',
    '-f',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: these are dpkg-query's fields
    '${Package} ${db:Status-Status}\n',
    ...packages,
  ]);
  if (code === 127) {
    throw new SetupError(`this is no Debian machine; install ${packages.join(', ')} in its own way, and dpkg`);
  }
  const installed = new Set(
    stdout
      .split('\n')
      .filter((line) => line.endsWith(' installed'))
      .map((line) => line.split(' ')[0]),
  );
  return packages.filter((name) => !installed.has(name));
}

const step = (packages) => ({
  name: 'Debian packages',

  /** @returns the installed packages, or undefined if one is missing. */
  async ready() {
    return (await missing(packages)).length === 0 ? { text: `${packages.length} installed` } : undefined;
  },

  async make(progress) {
    const names = await missing(packages);
    const install = `apt-get install -y --no-install-recommends ${names.join(' ')}`;
    const fix = `sudo sh -c 'dpkg --configure -a && apt-get update && ${install}'`;
    const prefix = await asRoot(fix);
    const options = { fix, interactive: prefix.length > 0 };
    // sudo drops the environment, so settings go through env(1).
    const unattended = [...prefix, 'env', 'DEBIAN_FRONTEND=noninteractive', 'LC_ALL=C'];
    const apt = [...unattended, 'apt-get', '-o', 'DPkg::Lock::Timeout=300'];
    if (!existsSync('/usr/bin/apt-get')) throw new SetupError(`apt-get is missing; install ${names.join(', ')}`);
    progress.doing('reading package lists');
    await mustRun([...apt, 'update', '-q'], options);
    // An install that was interrupted leaves packages half configured, and apt refuses everything until that is done.
    // It may fail while another apt runs: the install waits for that one, and reports its own errors.
    await run([...unattended, 'dpkg', '--configure', '-a'], options);
    progress.doing(`installing ${names.join(', ')}, about 1 min`);
    await mustRun([...apt, 'install', '-y', '-q', '--no-install-recommends', ...names], options);
    const left = await missing(packages);
    if (left.length > 0) throw new SetupError(`still missing: ${left.join(', ')}`, fix);
    return { text: `installed ${names.join(', ')}` };
  },
});

export const debianPackages = step(DEBIAN_PACKAGES);

export const debianPackagesForTests = step(TEST_PACKAGES);
