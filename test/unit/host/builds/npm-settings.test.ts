import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rootCertificates } from 'node:tls';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readRegistrySettings } from '../../../../host/builds/npm-settings.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kr-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

/** Runs the real npm, without the configuration of this machine. */
async function read(npmrc: string, more: { caFiles?: string[]; extraEndpoints?: string[] } = {}) {
  const user = join(directory, 'user.npmrc');
  const none = join(directory, 'none.npmrc');
  await writeFile(user, npmrc);
  await writeFile(none, '');
  const files = ['--userconfig', user, '--globalconfig', none];
  return readRegistrySettings({
    // A test run that npm started has npm's whole configuration in its environment.
    npmCommand: ['sh', '-c', 'exec env -i PATH="$PATH" HOME="$0" npm "$@"', directory, ...files],
    directory,
    timeoutMs: 30_000,
    caFiles: [],
    extraEndpoints: [],
    ...more,
  });
}

async function selfSigned(): Promise<{ path: string; pem: string }> {
  const path = join(directory, 'ca.pem');
  await promisify(execFile)('openssl', [
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-days',
    '1',
    '-subj',
    '/CN=kiln test',
    '-keyout',
    join(directory, 'ca.key'),
    '-out',
    path,
  ]);
  return { path, pem: (await readFile(path, 'utf8')).trim() };
}

describe('registry settings', () => {
  it('hands on registries and scopes, never a credential', async () => {
    const settings = await read(
      [
        'registry=https://packages.example:8443/npm',
        '@corp:registry=http://in.corp/npm/',
        '//packages.example:8443/npm/:_authToken=SECRET-TOKEN',
        '//in.corp/npm/:_password=SECRET-PASSWORD',
        '//in.corp/npm/:username=SECRET-USER',
        '_auth=SECRET-AUTH',
        'email=SECRET@mail.example',
        'strict-ssl=false',
        'replace-registry-host=always',
      ].join('\n'),
    );
    expect(settings).toEqual({
      endpoints: ['packages.example:8443', 'in.corp:80'],
      npmrc:
        'registry=https://packages.example:8443/npm/\n@corp:registry=http://in.corp/npm/\nstrict-ssl=false\nreplace-registry-host=always\n',
    });
    expect(JSON.stringify(settings)).not.toMatch(/SECRET/);
  });

  it('does not take part in passwords in URLs', async () => {
    const failure = read('registry=https://user:SECRET@packages.example/npm');
    await expect(failure).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: expect.not.stringContaining('SECRET'),
    });
    const scoped = await read('registry=https://packages.example\n@corp:registry=https://user:SECRET@in.corp/npm');
    expect(JSON.stringify(scoped)).not.toContain('SECRET');
  });

  it('has a default registry, and the endpoints it was given', async () => {
    const { endpoints, npmrc } = await read('', { extraEndpoints: ['files.example:443'] });
    expect(endpoints).toEqual([expect.stringMatching(/^[a-z.]+:443$/), 'files.example:443']);
    expect(npmrc).toMatch(/^registry=https:\/\/[a-z.]+\/\nreplace-registry-host=npmjs\n$/);
  });

  it('brings only certificates that Node does not know by itself, each once', async () => {
    const { path, pem } = await selfSigned();
    const bundle = join(directory, 'bundle.pem');
    await writeFile(
      bundle,
      `${rootCertificates.slice(0, 3).join('\n')}\n${pem}\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`,
    );
    const { caBundlePem } = await read(`cafile=${bundle}`, { caFiles: [path, bundle] });
    expect(caBundlePem?.trim()).toBe(pem);
    expect((await read('', { caFiles: [] })).caBundlePem).toBeUndefined();
  });

  it('says what is wrong', async () => {
    await expect(read(`cafile=${join(directory, 'missing.pem')}`)).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    await expect(
      readRegistrySettings({
        npmCommand: ['no-such-npm'],
        directory,
        timeoutMs: 1000,
        caFiles: [],
        extraEndpoints: [],
      }),
    ).rejects.toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('no-such-npm') });
    await expect(
      readRegistrySettings({ npmCommand: ['echo'], directory, timeoutMs: 1000, caFiles: [], extraEndpoints: [] }),
    ).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });
});
