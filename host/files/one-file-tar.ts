/** A tar with one file: how a file goes into a guest and comes out of it. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract, pack } from 'tar-stream';
import { KilnError, messageOf } from '../../domain/failures.ts';

/** @returns the tar; it fails with what the content fails with */
export function tarOf(name: string, { bytes, content }: { bytes: number; content: Readable }): Readable {
  const tar = pack();
  const entry = tar.entry({ name, size: bytes, mode: 0o644, mtime: new Date() });
  pipeline(content, entry).then(
    () => tar.finalize(),
    (error: unknown) => tar.destroy(error instanceof Error ? error : new Error(messageOf(error))),
  );
  return Readable.from(tar);
}

/**
 * @returns the content of the first entry, which must be a file
 * @throws CONFLICT where it is none; whatever the tar fails with
 */
export async function fileOf(tar: Readable): Promise<{ readonly bytes: number; readonly content: Readable }> {
  const reader = extract();
  let cause: unknown;
  tar.once('error', (error) => {
    cause ??= error;
  });
  pipeline(tar, reader).catch(() => undefined);
  const entries = reader[Symbol.asyncIterator]();
  try {
    const first = await entries.next();
    if (first.done === true || first.value.header.type !== 'file') throw changed();
    const content = Readable.from(
      bytesOf(first.value, () => cause),
      { objectMode: false },
    );
    content.once('close', () => tar.destroy());
    return { bytes: first.value.header.size ?? 0, content };
  } catch (error) {
    tar.destroy();
    throw cause ?? error;
  }
}

async function* bytesOf(entry: AsyncIterable<unknown>, cause: () => unknown): AsyncGenerator<Buffer, void> {
  try {
    for await (const chunk of entry) if (Buffer.isBuffer(chunk)) yield chunk;
  } catch (error) {
    throw cause() ?? error;
  }
}

function changed(): KilnError {
  return new KilnError('CONFLICT', 'The file was changed while it was opened; try again.');
}
