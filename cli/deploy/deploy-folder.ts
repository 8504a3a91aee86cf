import { mkdtemp, realpath, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { type PackedUpload, packForUpload, type UploadOptions } from '../../sources/pack-for-upload.ts';
import { type CliContext, EXIT, UsageError } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { textColumns } from '../terminal/text-columns.ts';
import { type RunOptions, startWorkload } from '../workload/create.ts';
import { mintId } from '../workload/mint-id.ts';
import { byteText } from './byte-text.ts';
import { uploadOnce } from './upload-once.ts';

export interface DeployOptions extends RunOptions {
  readonly allowSecret?: readonly string[];
  readonly dryRun?: boolean;
}

const MIB = 1024 * 1024;
/** What a gateway takes by default. */
const LIMITS = { maxBytes: 128 * MIB, maxEntries: 20_000 };
const NAMED_FILES = 3;

/** `kiln deploy`. @returns exit code; 0 where it runs, or where the caller does not wait */
export async function deployFolder(
  context: CliContext,
  output: CommandOutput,
  dir: string,
  options: DeployOptions,
): Promise<number> {
  const folder = await folderOf(dir);
  const api = options.dryRun === true ? undefined : await context.connect();
  // From here on there are files to remove, also at Ctrl-C.
  const interrupt = context.interruptible();
  let source: { readonly sha256: string };
  try {
    const send = async (tarPath: string, packed: PackedUpload): Promise<void> => {
      if (api === undefined) return showContent(output, packed);
      output.note(summary(packed));
      await uploadOnce(context, api, output, { tarPath, ...packed, signal: interrupt.signal });
    };
    const packing = { ...LIMITS, allowSecrets: options.allowSecret ?? [], signal: interrupt.signal };
    source = await withPacked(folder, packing, send);
    interrupt.signal.throwIfAborted();
  } catch (error) {
    if (!interrupt.signal.aborted) throw error;
    output.note('Interrupted; no workload was made.');
    return EXIT.interrupted;
  } finally {
    interrupt.release();
  }
  if (api === undefined) return EXIT.ok;
  return await startWorkload(
    context,
    output,
    { ...options, id: options.id ?? mintId(basename(folder)) },
    { servicePath: '.', source },
  );
}

/** Packs a folder into a file that exists as long as it is used. @returns the digest of the tar */
async function withPacked(
  folder: string,
  options: UploadOptions,
  use: (tarPath: string, packed: PackedUpload) => Promise<void>,
): Promise<{ sha256: string }> {
  const scratch = await mkdtemp(join(tmpdir(), 'kiln-deploy-'));
  try {
    const tarPath = join(scratch, 'source.tar');
    const packed = await packForUpload(folder, tarPath, options);
    await use(tarPath, packed);
    return { sha256: packed.sha256 };
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function folderOf(dir: string): Promise<string> {
  const real = await realpath(dir).catch(() => undefined);
  if (real !== undefined && (await stat(real)).isDirectory()) return real;
  throw new UsageError(`There is no folder ${dir}.`);
}

function summary({ files, bytes, sha256 }: PackedUpload): string {
  const largest = files
    .toSorted((a, b) => b.bytes - a.bytes)
    .slice(0, NAMED_FILES)
    .map((file) => `${file.path} (${byteText(file.bytes)})`);
  return `${files.length} files, ${byteText(bytes)} as ${sha256.slice(0, 12)}; largest: ${largest.join(', ')}`;
}

function showContent(output: CommandOutput, { sha256, bytes, files }: PackedUpload): void {
  const shown = files.map((file) => ({ path: file.path, bytes: file.bytes }));
  output.answer({ sha256, bytes, files: shown }, () =>
    textColumns(
      ['BYTES', 'PATH'],
      files.map((file) => [String(file.bytes), file.path]),
    ),
  );
  output.note(`${summary({ sha256, bytes, files })}; nothing was sent`);
}
