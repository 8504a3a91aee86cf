/** Bundles of the workflows that are kept between starts: to make one takes a core about a second and a half. */
import { createHash } from 'node:crypto';
import { mkdir, readdir, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import type { WorkflowBundle } from '@temporalio/worker';
import writeFileAtomic from 'write-file-atomic';
import { CHECKOUT } from '../../config/checkout.ts';
import { directoryEntries } from '../../linux/directory-entries.ts';
import { readTextIfThere } from '../../linux/read-text.ts';
import { bundleWorkflows } from '../../temporal/workflow-bundle.ts';

/** All code that a bundle can have in it: import rules let workflows import values of these folders alone. */
const SOURCES = ['workflows', 'domain'];
/** What decides how it is bundled, and which packages are installed; npm writes the last file. */
const ALSO = ['temporal/workflow-bundle.ts', 'package-lock.json', 'node_modules/.package-lock.json'];
/** A bundle that no worker has used for so long belongs to code that is no more. */
const UNUSED_MS = 30 * 24 * 60 * 60 * 1000;

export interface KeptBundleOptions {
  /** Folder for the bundles, only for this user to write: workers run what lies in it. Created if absent. */
  readonly directory: string;
  /** Root of the code; default: the code that runs. */
  readonly checkout?: string;
  readonly bundle?: () => Promise<WorkflowBundle>;
}

/**
 * @returns the bundle of the workflows as they are on disk, which is only made if none is kept of the same code. Of a
 * package that was changed by hand in `node_modules` nothing is known.
 * @throws errors of bundling. Where the folder cannot be used, the bundle is made each time.
 */
export async function keptWorkflowBundle(options: KeptBundleOptions): Promise<WorkflowBundle> {
  const { directory, checkout = CHECKOUT, bundle = bundleWorkflows } = options;
  const path = join(directory, `${await digestOfCode(checkout)}.js`);
  const kept = await readKept(path);
  if (kept !== undefined) return { code: kept };
  const made = await bundle();
  await keep(path, directory, made.code).catch(() => undefined);
  return made;
}

async function digestOfCode(checkout: string): Promise<string> {
  const below = await Promise.all(
    SOURCES.map(async (folder) =>
      (await readdir(join(checkout, folder), { recursive: true })).map((name) => join(folder, name)),
    ),
  );
  const names = [...below.flat().filter((name) => name.endsWith('.ts')), ...ALSO].sort();
  const texts = await Promise.all(names.map((name) => readTextIfThere(join(checkout, name))));
  // The path is in the bundle, too: traces name files by it.
  return sha256(JSON.stringify([checkout, names, texts]));
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** @returns undefined where there is none, or a damaged one */
async function readKept(path: string): Promise<string | undefined> {
  const text = (await readTextIfThere(path).catch(() => undefined)) ?? '';
  const code = text.slice(text.indexOf('\n') + 1);
  if (text !== withDigest(code)) return undefined;
  const now = new Date();
  await utimes(path, now, now).catch(() => undefined);
  return code;
}

const withDigest = (code: string): string => `${sha256(code)}\n${code}`;

async function keep(path: string, directory: string, code: string): Promise<void> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  await writeFileAtomic(path, withDigest(code), { mode: 0o600 });
  for (const name of await directoryEntries(directory)) {
    const other = join(directory, name);
    if (Date.now() - (await stat(other)).mtimeMs > UNUSED_MS) await rm(other, { force: true });
  }
}
