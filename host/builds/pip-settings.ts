/** The package indexes of this machine's own pip, as a builder needs them: read once, without credentials. */

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { remembered } from '../../concurrency/remembered.ts';
import { defined } from '../../domain/defined.ts';
import { parseEgressEntry } from '../../domain/egress/rules.ts';
import { KilnError } from '../../domain/failures.ts';
import { isErrno } from '../../linux/errno.ts';
import type { PipSettings } from '../../ports/builds.ts';
import { endpointOf, extraCertificates, plainUrl } from './npm-settings.ts';

export interface PipSettingsOptions {
  /** Possible commands of pip, each with its first arguments; the first that is installed is used. */
  readonly pipCommands: readonly (readonly string[])[];
  /** Folder it is run in. */
  readonly directory: string;
  /** Time for pip to answer, ms. */
  readonly timeoutMs: number;
  /** Further `host:port` entries that builds may reach, e.g. where an index keeps its files. */
  readonly extraEndpoints: readonly string[];
}

const MAX_OUTPUT_BYTES = 1024 * 1024;

/** @returns the settings of this machine: read at the first call, and again after a failure. */
export function createPipSettings(options: PipSettingsOptions): () => Promise<PipSettings> {
  return remembered(() => readPipSettings(options));
}

/** @returns pip's own defaults on a machine without pip. @throws CONFIG_INVALID */
export async function readPipSettings(options: PipSettingsOptions): Promise<PipSettings> {
  const config = parsePipConfig(await pipConfigList(options));
  const index = config.get('index-url')?.map((text) => plainUrl(text, "pip's setting", 'index-url'));
  const extra = (config.get('extra-index-url') ?? []).map((text) => plainUrl(text, "pip's setting", 'extra-index-url'));
  // Folders of this machine are not in the guest.
  const links = (config.get('find-links') ?? [])
    .filter((text) => /^https?:/i.test(text))
    .map((text) => plainUrl(text, "pip's setting", 'find-links'));
  const noIndex = isTrue(config.get('no-index')?.[0]) && links.length > 0;
  const trusted = (config.get('trusted-host') ?? []).filter((name) => /^[\w.:-]{1,260}$/.test(name));
  const caBundlePem = await extraCertificates(config.get('cert') ?? [], []);
  const endpoints = [...(index ?? []), ...extra, ...links].map(endpointOf);
  return {
    endpoints: [...new Set([...endpoints, ...options.extraEndpoints])].filter(
      (entry) => parseEgressEntry(entry) !== undefined,
    ),
    pipConf: pipConf({ 'index-url': index, 'extra-index-url': extra, 'find-links': links }, trusted, noIndex),
    ownIndex: index === undefined && !noIndex,
    ...defined({ caBundlePem }),
  };
}

function pipConf(
  urls: Readonly<Record<string, readonly URL[] | undefined>>,
  trusted: readonly string[],
  noIndex: boolean,
): string {
  const lines = ['[global]'];
  for (const [key, list = []] of Object.entries(urls)) {
    if (list.length > 0) lines.push(`${key} =${list.map(({ href }) => `\n    ${href}`).join('')}`);
  }
  if (trusted.length > 0) lines.push(`trusted-host =${trusted.map((name) => `\n    ${name}`).join('')}`);
  if (noIndex) lines.push('no-index = true');
  // An interpolation sign of ini files.
  return `${lines.join('\n').replaceAll('%', '%%')}\n`;
}

async function pipConfigList(options: PipSettingsOptions): Promise<string> {
  for (const [program, ...first] of options.pipCommands) {
    if (program === undefined) continue;
    try {
      const { stdout } = await promisify(execFile)(program, [...first, 'config', 'list'], {
        cwd: options.directory,
        timeout: options.timeoutMs,
        maxBuffer: MAX_OUTPUT_BYTES,
        encoding: 'utf8',
      });
      return stdout;
    } catch (error) {
      // Not installed, or a Python without pip: both end with a plain code.
      if (isErrno(error, 'ENOENT') || isExit(error, 1)) continue;
      throw new KilnError(
        'CONFIG_INVALID',
        `The index of packages cannot be asked of ${program}: \`${[program, ...first].join(' ')} config list\` failed or took too long.`,
        {},
        error,
      );
    }
  }
  return '';
}

function isExit(error: unknown, code: number): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}

/** Sections in pip's own order of precedence, the strongest last. */
const SECTIONS = ['global', 'install', ':env:'];

/**
 * Reads what `pip config list` prints: `section.key='value'`, values as Python string literals.
 * @returns words of each value, by key; the environment overrides `install`, which overrides `global`
 */
export function parsePipConfig(text: string): Map<string, readonly string[]> {
  const found = new Map<string, { rank: number; words: readonly string[] }>();
  for (const line of text.split('\n')) {
    const match = /^(global|install|:env:)\.([a-z-]{1,64})=(.*)$/.exec(line.trim());
    const [, section = '', key = '', literal = ''] = match ?? [];
    const value = match === null ? undefined : parsePythonText(literal);
    if (value === undefined) continue;
    const rank = SECTIONS.indexOf(section);
    const known = found.get(key);
    if (known === undefined || known.rank <= rank) {
      found.set(key, { rank, words: value.split(/\s+/).filter((word) => word !== '') });
    }
  }
  return new Map([...found].map(([key, { words }]) => [key, words]));
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', '\\': '\\', "'": "'", '"': '"' };

/** @returns the text of a Python literal in one pair of quotes; undefined where it is not one */
export function parsePythonText(literal: string): string | undefined {
  const quote = literal[0];
  if ((quote !== "'" && quote !== '"') || literal.length < 2 || literal.at(-1) !== quote) return undefined;
  let text = '';
  const body = literal.slice(1, -1);
  for (let at = 0; at < body.length; at++) {
    const char = body[at] ?? '';
    if (char === quote) return undefined;
    if (char !== '\\') {
      text += char;
      continue;
    }
    at += 1;
    const plain = ESCAPES[body[at] ?? ''];
    // \x.., \u....: never in a URL or a host name.
    if (plain === undefined) return undefined;
    text += plain;
  }
  return text;
}

function isTrue(text: string | undefined): boolean {
  return text !== undefined && /^(?:1|true|yes|on|t|y)$/i.test(text);
}
