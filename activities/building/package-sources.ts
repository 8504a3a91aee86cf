/** Where a builder gets packages from: the registries of this machine's own npm and pip, copied without credentials. */
import { Readable } from 'node:stream';
import { pack } from 'tar-stream';
import { defined } from '../../domain/defined.ts';
import { parseEgressEntry } from '../../domain/egress/rules.ts';
import { KilnError } from '../../domain/failures.ts';
import type { Language } from '../../domain/workload/workload.ts';
import type { PipSettings, RegistrySettings } from '../../ports/builds.ts';
import type { AgentChannel } from '../../ports/guest-agent.ts';
import type { VmHost } from '../../ports/host.ts';

export interface PackageSources {
  readonly registries: RegistrySettings;
  /** Called when the first Python service is built: pip is slow. */
  readonly pip: () => Promise<PipSettings>;
}

/** The settings one build is made with. */
export interface BuildRegistries {
  readonly endpoints: readonly string[];
  /** Text of each settings file, by its name in the builder's home. */
  readonly files: Readonly<Record<string, string>>;
  /** Whether packages come from the default index of the guest's pip. */
  readonly ownPipIndex: boolean;
  readonly env: Readonly<Record<string, string>>;
}

const HOME = '/root';
const EXTRA_CA = 'registry-ca.pem';
const PIP_CA = 'pip-ca.pem';

/** @returns what builds of a language need to find their packages */
export async function registriesFor(language: Language, sources: PackageSources): Promise<BuildRegistries> {
  const { endpoints, npmrc, caBundlePem } = sources.registries;
  const npm = {
    endpoints,
    files: { '.npmrc': npmrc, ...defined({ [EXTRA_CA]: caBundlePem }) },
    ownPipIndex: false,
    env: caBundlePem === undefined ? {} : { NODE_EXTRA_CA_CERTS: `${HOME}/${EXTRA_CA}` },
  };
  if (language !== 'python') return npm;
  const pip = await sources.pip();
  const ca = [caBundlePem ?? '', pip.caBundlePem ?? ''].join('');
  return {
    endpoints: [...new Set([...endpoints, ...pip.endpoints])],
    files: { ...npm.files, 'pip.conf': pip.pipConf, ...(ca === '' ? {} : { [EXTRA_CA]: ca }) },
    ownPipIndex: pip.ownIndex,
    env: {
      ...(ca === '' ? {} : { NODE_EXTRA_CA_CERTS: `${HOME}/${EXTRA_CA}`, PIP_CERT: `${HOME}/${PIP_CA}` }),
      PIP_CONFIG_FILE: `${HOME}/pip.conf`,
      PIP_DISABLE_PIP_VERSION_CHECK: '1',
      PIP_NO_CACHE_DIR: '1',
      PIP_NO_INPUT: '1',
      PIP_PROGRESS_BAR: 'off',
    },
  };
}

/** Copies the settings into a builder and lets it reach the registries only. */
export async function connectRegistries(
  vms: Pick<VmHost, 'setEgress'>,
  agent: AgentChannel,
  vmId: string,
  registries: BuildRegistries,
): Promise<void> {
  await agent.putTar(HOME, settingsTar(registries.files));
  const own = registries.ownPipIndex ? await ownPipIndex(agent) : [];
  if (registries.env['PIP_CERT'] !== undefined) {
    // pip reads all trusted certificates from one file.
    await output(agent, 'pip-trust', `cat /etc/ssl/certs/ca-certificates.crt ${HOME}/${EXTRA_CA} > ${HOME}/${PIP_CA}`);
  }
  const { endpoints } = registries;
  await vms.setEgress(vmId, { allow: [...new Set([...endpoints, ...own])], privateAllowed: [...endpoints] });
}

const PRINT_INDEX =
  'from urllib.parse import urlsplit; from pip._internal.models.index import PyPI; print(urlsplit(PyPI.url).netloc, PyPI.file_storage_domain)';

/** pip's default index and the host of its files. No code of the service has run in this guest yet. */
async function ownPipIndex(agent: AgentChannel): Promise<string[]> {
  const names = (await output(agent, 'pip-index', `python3 -c '${PRINT_INDEX}'`)).trim().split(/\s+/);
  const entries = names.map((name) => `${name}:443`);
  if (entries.length <= 4 && entries.every((entry) => parseEgressEntry(entry) !== undefined)) return entries;
  throw new KilnError('IMAGE_CORRUPT', 'The pip of this image does not name its index: build the image again.');
}

const MAX_OUTPUT = 4096;

async function output(agent: AgentChannel, execId: string, script: string): Promise<string> {
  const exec = await agent.exec({ execId, argv: ['/bin/sh', '-c', script], cwd: '/', output: 'wait' });
  let stdout = '';
  let stderr = '';
  for await (const piece of exec.output) {
    if (piece.kind !== 'data') continue;
    if (piece.stream === 'stdout') stdout = (stdout + piece.data.toString('utf8')).slice(0, MAX_OUTPUT);
    else stderr = (stderr + piece.data.toString('utf8')).slice(-MAX_OUTPUT);
  }
  const { code } = await exec.exit;
  if (code === 0) return stdout;
  throw new KilnError(
    'IMAGE_CORRUPT',
    `The image has no working Python and pip: give a Python service the image "python", or build it again.`,
    { stderr },
  );
}

function settingsTar(files: Readonly<Record<string, string>>): Readable {
  const tar = pack();
  for (const [name, text] of Object.entries(files)) tar.entry({ name, mode: 0o600 }, text);
  tar.finalize();
  return Readable.from(tar);
}
