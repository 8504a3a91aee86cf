/** The two servers of a development stack, built from pinned Go modules, unless others are given. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { binaryPath, goBuild, moduleKey } from './go-build.mjs';
import { projectRoot } from './places.mjs';
import { run } from './run.mjs';

const TEMPORAL_VERSION = '1.8.2';
const TEMPORAL_FLAGS = [
  '-ldflags',
  `-s -w -X github.com/temporalio/cli/internal/temporalcli.Version=${TEMPORAL_VERSION}`,
];
const VERSITYGW_VERSION = '1.8.0';
const VERSITYGW_FLAGS = ['-ldflags', `-s -w -X main.Version=${VERSITYGW_VERSION}`];

/** @returns path of a `temporal` on PATH that is new enough, or undefined. */
async function temporalOnPath() {
  const { code, stdout } = await run(['temporal', '--version']);
  if (code !== 0) return undefined;
  const [, major, minor] = /version (\d+)\.(\d+)\./.exec(stdout) ?? [];
  const goodEnough = Number(major) > 1 || (Number(major) === 1 && Number(minor) >= 8);
  if (!goodEnough) return undefined;
  return (await run(['sh', '-c', 'command -v temporal'])).stdout.trim();
}

export const temporalCli = {
  name: `Temporal CLI ${TEMPORAL_VERSION}`,

  async ready() {
    const { TEMPORAL_ADDRESS } = process.env;
    if (TEMPORAL_ADDRESS) return { text: `not needed, TEMPORAL_ADDRESS is ${TEMPORAL_ADDRESS}` };
    const path = temporalPath();
    if (existsSync(path)) return { text: 'built', path };
    const found = await temporalOnPath();
    return found === undefined ? undefined : { text: found, path: found };
  },

  async make(progress) {
    progress.doing('building from its Go module, about 3 min the first time');
    await goBuild({
      directory: join(projectRoot, 'temporal', 'server'),
      packagePath: 'github.com/temporalio/cli/cmd/temporal',
      flags: TEMPORAL_FLAGS,
      output: temporalPath(),
    });
    return { text: 'built', path: temporalPath() };
  },
};

export const s3Server = {
  name: `S3 server (versitygw ${VERSITYGW_VERSION})`,

  async ready() {
    const { KILN_S3_ENDPOINT } = process.env;
    if (KILN_S3_ENDPOINT) return { text: `not needed, KILN_S3_ENDPOINT is ${KILN_S3_ENDPOINT}` };
    const path = versitygwPath();
    return existsSync(path) ? { text: 'built', path } : undefined;
  },

  async make(progress) {
    progress.doing('building from its Go module, about 1 min the first time');
    await goBuild({
      directory: join(projectRoot, 'store', 'server'),
      packagePath: 'github.com/versity/versitygw/cmd/versitygw',
      flags: VERSITYGW_FLAGS,
      output: versitygwPath(),
    });
    return { text: 'built', path: versitygwPath() };
  },
};

function temporalPath() {
  return binaryPath('temporal', moduleKey(join(projectRoot, 'temporal', 'server'), TEMPORAL_FLAGS));
}

function versitygwPath() {
  return binaryPath('versitygw', moduleKey(join(projectRoot, 'store', 'server'), VERSITYGW_FLAGS));
}
