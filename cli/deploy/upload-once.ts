import { createReadStream, createWriteStream, openAsBlob } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import type { KilnClient } from '../../client/http/kiln-client.ts';
import { isKilnError } from '../../domain/failures.ts';
import type { CliContext } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { byteText } from './byte-text.ts';

export interface PackedTar {
  readonly tarPath: string;
  readonly sha256: string;
}

/** Time between two progress messages of an upload, ms. */
const PROGRESS_MS = 2_000;

/** Uploads a tar unless it is stored already. @throws the signal's reason, or an error for it, once aborted */
export async function uploadOnce(
  context: CliContext,
  api: KilnClient,
  output: CommandOutput,
  { tarPath, sha256, signal }: PackedTar & { readonly signal: AbortSignal },
): Promise<void> {
  if (await isStored(api, sha256, signal)) {
    output.note('These very files are stored already: nothing to send.');
    return;
  }
  const gzipPath = `${tarPath}.gz`;
  await pipeline(createReadStream(tarPath), createGzip(), createWriteStream(gzipPath), { signal });
  const blob = await openAsBlob(gzipPath);
  const bytes = blob.stream().pipeThrough(progress(context, output, blob.size));
  await api.uploadSource(bytes, { sha256, gzip: true, signal });
  output.note(`Sent ${byteText(blob.size)}.`);
}

async function isStored(api: KilnClient, sha256: string, signal: AbortSignal): Promise<boolean> {
  try {
    await api.getSource({ params: { sha256 } }, { signal });
    return true;
  } catch (error) {
    if (isKilnError(error, 'NOT_FOUND')) return false;
    throw error;
  }
}

function progress(context: CliContext, output: CommandOutput, total: number): TransformStream<Uint8Array, Uint8Array> {
  let sent = 0;
  let toldAt = context.now();
  return new TransformStream({
    transform(chunk, controller) {
      sent += chunk.length;
      if (context.now() - toldAt >= PROGRESS_MS) {
        toldAt = context.now();
        output.note(`Sent ${byteText(sent)} of ${byteText(total)} …`);
      }
      controller.enqueue(chunk);
    },
  });
}
