/** Packs a caller's folder for upload: without ignored files and without secrets. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import ignore, { type Ignore } from 'ignore';
import { KilnError } from '../domain/failures.ts';
import { isSecretPath, NPMRC, npmrcHoldsSecret } from '../domain/sources/secret-files.ts';
import { IGNORE_FILES, LEFT_OUT_OF_UPLOADS, plainEntryPath } from '../domain/sources/source-tree.ts';
import { type EntryChoice, type PackedEntry, packFolder, type SourceLimits } from './pack-folder.ts';

export interface UploadOptions extends SourceLimits {
  /** Files that look like secrets but are uploaded anyway, or folders of them, relative to the packed folder. */
  readonly allowSecrets: readonly string[];
  /** Ends the packing before its next entry. */
  readonly signal?: AbortSignal;
}

export interface PackedUpload {
  /** Hex. */
  readonly sha256: string;
  /** Of the tar. */
  readonly bytes: number;
  /** Files and links, in the order of the tar. */
  readonly files: readonly PackedEntry[];
}

/** Longest ignore file, or .npmrc, that is read. */
const MAX_RULE_FILE_BYTES = 1024 * 1024;
const NAMED_SECRETS = 20;

/**
 * Packs a folder into a new file: the same files give the same bytes.
 * @param folder real absolute path
 * @throws SPEC_INVALID where files look like secrets, links lead out, or nothing is left; PAYLOAD_TOO_LARGE; the signal's
 * reason where it was aborted
 */
export async function packForUpload(folder: string, tarPath: string, options: UploadOptions): Promise<PackedUpload> {
  const files: PackedEntry[] = [];
  const secrets: string[] = [];
  const allowed = options.allowSecrets.map(plainEntryPath);
  const packed = await packFolder(folder, tarPath, {
    ...options,
    choose: ignoreRules(folder),
    outsideLinks: 'refuse',
    onEntry: async (entry) => {
      options.signal?.throwIfAborted();
      if (entry.kind === 'directory') return;
      files.push(entry);
      if (allowed.some((path) => entry.path === path || entry.path.startsWith(`${path}/`))) return;
      if (await isSecret(folder, entry)) secrets.push(entry.path);
    },
  });
  if (secrets.length > 0) throw holdsSecrets(secrets);
  if (files.length === 0) {
    throw new KilnError('SPEC_INVALID', 'The folder holds no file that its ignore files let through; nothing to send.');
  }
  return { ...packed, files };
}

/** @returns the choice in each folder: a rule of a deeper file goes before those above it, as git has it. */
export function ignoreRules(folder: string): (prefix: string) => Promise<EntryChoice> {
  const known = new Map<string, readonly Level[]>();
  return async (prefix) => {
    const above = prefix === '' ? [] : (known.get(parentOf(prefix)) ?? []);
    const own = await rulesOf(join(folder, prefix));
    const levels = own === undefined ? above : [...above, { prefix, rules: own }];
    known.set(prefix, levels);
    return (name, kind) => {
      if (LEFT_OUT_OF_UPLOADS.includes(name)) return false;
      const path = prefix === '' ? name : `${prefix}/${name}`;
      return !isIgnored(levels, kind === 'directory' ? `${path}/` : path);
    };
  };
}

interface Level {
  readonly prefix: string;
  readonly rules: Ignore;
}

function isIgnored(levels: readonly Level[], path: string): boolean {
  let ignored = false;
  for (const { prefix, rules } of levels) {
    const result = rules.test(prefix === '' ? path : path.slice(prefix.length + 1));
    if (result.ignored) ignored = true;
    else if (result.unignored) ignored = false;
  }
  return ignored;
}

async function rulesOf(directory: string): Promise<Ignore | undefined> {
  for (const name of IGNORE_FILES) {
    const text = await smallFile(join(directory, name));
    // Linux tells names by case, and so does the guest.
    if (text !== undefined) return ignore({ ignorecase: false }).add(text);
  }
  return undefined;
}

async function isSecret(folder: string, { path, kind }: PackedEntry): Promise<boolean> {
  if (isSecretPath(path)) return true;
  if (kind !== 'file' || path.split('/').at(-1) !== NPMRC) return false;
  return npmrcHoldsSecret((await smallFile(join(folder, path))) ?? '');
}

async function smallFile(path: string): Promise<string | undefined> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isFile() !== true) return undefined;
  if (found.size > MAX_RULE_FILE_BYTES) {
    throw new KilnError('SPEC_INVALID', `${path} has ${found.size} bytes; at most ${MAX_RULE_FILE_BYTES} are read.`);
  }
  return readFile(path, 'utf8');
}

function parentOf(prefix: string): string {
  return prefix.includes('/') ? prefix.slice(0, prefix.lastIndexOf('/')) : '';
}

function holdsSecrets(paths: readonly string[]): KilnError {
  const more = paths.length > NAMED_SECRETS ? ` and ${paths.length - NAMED_SECRETS} more` : '';
  return new KilnError(
    'SPEC_INVALID',
    `These files look like secrets, so nothing was sent: ${paths.slice(0, NAMED_SECRETS).join(', ')}${more}. Name them in ${IGNORE_FILES.join(' or ')} and give values with --env; one that is no secret goes up with --allow-secret PATH.`,
    { paths: paths.slice(0, NAMED_SECRETS) },
  );
}
