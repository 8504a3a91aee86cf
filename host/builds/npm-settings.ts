/**
 * The package registries of this machine's own npm configuration, as a builder needs them, without tokens: read when
 * the host worker starts.
 */

import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { rootCertificates } from 'node:tls';
import { promisify } from 'node:util';
import { z } from 'zod';
import { defined } from '../../domain/defined.ts';
import { parseEgressEntry } from '../../domain/egress/rules.ts';
import { KilnError } from '../../domain/failures.ts';
import { jsonOrUndefined } from '../../domain/json-or-undefined.ts';
import { isErrno } from '../../linux/errno.ts';
import type { RegistrySettings } from '../../ports/builds.ts';

export interface RegistrySettingsOptions {
  /** Program and first arguments, e.g. `['npm']`. */
  readonly npmCommand: readonly string[];
  /** Folder whose .npmrc counts beside the user's and the machine's. */
  readonly directory: string;
  /** Time for npm to answer, ms. */
  readonly timeoutMs: number;
  /** Files of certificates that programs of this machine trust: NODE_EXTRA_CA_CERTS, SSL_CERT_FILE. */
  readonly caFiles: readonly string[];
  /** Further `host:port` entries that builds may reach, e.g. where a registry keeps its files. */
  readonly extraEndpoints: readonly string[];
}

/** The only parts read of `npm config list --json`; everything else, above all credentials, is ignored. */
const configSchema = z.looseObject({
  /** Absent where the URL holds a password: npm does not show it then. */
  registry: z.string().optional(),
  cafile: z.string().nullish(),
  ca: z.union([z.string(), z.array(z.string())]).nullish(),
  'strict-ssl': z.boolean().optional(),
  /** Which hosts in lock-file URLs npm replaces by the registry. */
  'replace-registry-host': z
    .string()
    .regex(/^[a-z0-9.-]{1,253}$/i)
    .optional(),
});

const MAX_OUTPUT_BYTES = 4 * 1024 * 1024;
const MAX_CA_FILE_BYTES = 8 * 1024 * 1024;
const SCOPE_KEY = /^(@[a-z0-9._~-]+):registry$/i;

/** @throws UNSUPPORTED where npm cannot be run, CONFIG_INVALID where a registry's URL or a CA file cannot be read */
export async function readRegistrySettings(options: RegistrySettingsOptions): Promise<RegistrySettings> {
  const config = await npmConfig(options);
  if (config.registry === undefined) {
    throw new KilnError(
      'CONFIG_INVALID',
      "npm does not show its registry, because the URL holds a password. Builds get no passwords: give npm the URL without it, and the password as the registry's _auth or _authToken.",
    );
  }
  const registries = [{ key: 'registry', url: registryUrl(config.registry, 'registry') }];
  for (const [key, value] of Object.entries(config).sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (SCOPE_KEY.test(key) && typeof value === 'string') registries.push({ key, url: registryUrl(value, key) });
  }
  const lines = registries.map(({ key, url }) => `${key}=${url.href}`);
  if (config['strict-ssl'] === false) lines.push('strict-ssl=false');
  const replaced = config['replace-registry-host'];
  if (replaced !== undefined) lines.push(`replace-registry-host=${replaced}`);
  const caFiles = [config.cafile, ...options.caFiles].filter((file) => file !== null && file !== undefined);
  const caBundlePem = await extraCertificates([...new Set(caFiles)], [config.ca ?? []].flat());
  const endpoints = new Set([...registries.map(({ url }) => endpointOf(url)), ...options.extraEndpoints]);
  for (const entry of endpoints) {
    if (parseEgressEntry(entry) === undefined) endpoints.delete(entry);
  }
  return {
    endpoints: [...endpoints],
    npmrc: `${lines.join('\n')}\n`,
    ...defined({ caBundlePem }),
  };
}

async function npmConfig(options: RegistrySettingsOptions): Promise<z.infer<typeof configSchema>> {
  const [program = 'npm', ...first] = options.npmCommand;
  let stdout: string;
  try {
    ({ stdout } = await promisify(execFile)(program, [...first, 'config', 'list', '-l', '--json'], {
      cwd: options.directory,
      timeout: options.timeoutMs,
      maxBuffer: MAX_OUTPUT_BYTES,
      encoding: 'utf8',
    }));
  } catch (error) {
    const why = isErrno(error, 'ENOENT') ? 'it is not installed' : 'it failed or took too long';
    throw new KilnError('UNSUPPORTED', `The registry settings cannot be asked of ${program}: ${why}.`, {}, error);
  }
  const parsed = configSchema.safeParse(jsonOrUndefined(stdout));
  if (parsed.success) return parsed.data;
  throw new KilnError('CONFIG_INVALID', '`npm config list -l --json` is not understood; look at its answer.');
}

function registryUrl(text: string, key: string): URL {
  return plainUrl(text, "npm's setting", key);
}

/** @returns the URL of a folder, without user and password. @throws CONFIG_INVALID where it is not http or https */
export function plainUrl(text: string, whose: string, key: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new KilnError('CONFIG_INVALID', `${whose} "${key}" is no http or https URL; correct it.`);
  }
  const { origin, pathname } = url;
  return new URL(pathname.endsWith('/') ? pathname : `${pathname}/`, origin);
}

/** @returns `host:port` of a URL. */
export function endpointOf(url: URL): string {
  return `${url.hostname}:${url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : url.port}`;
}

/** @returns the certificates that Node does not trust by itself, and a guest does not either */
export async function extraCertificates(
  files: readonly string[],
  inline: readonly string[],
): Promise<string | undefined> {
  const texts = [...inline];
  for (const file of files) texts.push(await readCaFile(file));
  const known = new Set(rootCertificates.map(fingerprint));
  const found = new Map<string, string>();
  for (const pem of certificatesIn(texts.join('\n'))) {
    const print = fingerprint(pem);
    if (print !== undefined && !known.has(print)) found.set(print, pem);
  }
  return found.size === 0 ? undefined : `${[...found.values()].join('\n')}\n`;
}

const BEGIN = '-----BEGIN CERTIFICATE-----';
const END = '-----END CERTIFICATE-----';

function certificatesIn(text: string): string[] {
  const [, ...parts] = text.split(BEGIN);
  return parts.flatMap((part) => {
    const body = part.slice(0, part.indexOf('-'));
    return part.startsWith(END, body.length) && body !== '' ? [`${BEGIN}${body}${END}`] : [];
  });
}

async function readCaFile(file: string): Promise<string> {
  try {
    const text = await readFile(file, 'utf8');
    if (text.length <= MAX_CA_FILE_BYTES) return text;
  } catch (error) {
    throw new KilnError(
      'CONFIG_INVALID',
      `The CA file ${file} cannot be read; correct or remove the setting.`,
      {},
      error,
    );
  }
  throw new KilnError('CONFIG_INVALID', `The CA file ${file} is larger than ${MAX_CA_FILE_BYTES} bytes.`);
}

function fingerprint(pem: string): string | undefined {
  try {
    return new X509Certificate(pem).fingerprint256;
  } catch {
    return undefined;
  }
}
