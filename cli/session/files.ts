import { randomUUID } from 'node:crypto';
import { constants, createWriteStream, openAsBlob } from 'node:fs';
import { access, rename, rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { SessionFilePlace } from '../../client/http/sessions/files.ts';
import { defined } from '../../domain/defined.ts';
import { messageOf } from '../../domain/failures.ts';
import { type CliContext, EXIT, UsageError } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { textColumns } from '../terminal/text-columns.ts';

/** `kiln session files ls`. @returns exit code */
export async function listFiles(
  context: CliContext,
  output: CommandOutput,
  { thread, dir, project }: { readonly thread: string; readonly dir?: string; readonly project?: string },
): Promise<number> {
  const api = await context.connect();
  const listing = await api.listSessionFiles({ params: { thread }, query: defined({ dir, project }) });
  output.answer(listing, () =>
    textColumns(
      ['KIND', 'BYTES', 'CHANGED', 'NAME'],
      listing.items.map(({ kind, bytes, modifiedAt, name }) => [kind, String(bytes), modifiedAt, name]),
    ),
  );
  if (listing.isCut) output.note('The folder has more entries than these.');
  return EXIT.ok;
}

/** `kiln session files get`: to a file, which is there only once it is whole, or to stdout. @returns exit code */
export async function getFile(
  context: CliContext,
  output: CommandOutput,
  place: SessionFilePlace,
  file: string | undefined,
): Promise<number> {
  const api = await context.connect();
  const content = await api.getSessionFile(place);
  if (file !== undefined) {
    await save(content, file);
    output.answer({ path: place.path, file }, () => [`${place.path} is in ${file}`]);
  } else for await (const chunk of content) context.stdout.write(chunk);
  return EXIT.ok;
}

async function save(content: ReadableStream<Uint8Array>, file: string): Promise<void> {
  const beside = `${file}.${randomUUID().slice(0, 8)}`;
  try {
    await pipeline(Readable.from(content), createWriteStream(beside, { flags: 'wx' }));
    await rename(beside, file);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}

/** `kiln session files put`. @returns exit code @throws UsageError where the file cannot be read */
export async function putFile(
  context: CliContext,
  output: CommandOutput,
  place: SessionFilePlace,
  file: string,
): Promise<number> {
  // Node opens the file only when it is read.
  await access(file, constants.R_OK).catch((error: unknown) => {
    throw new UsageError(`${file} cannot be read: ${messageOf(error)}`);
  });
  const bytes = await openAsBlob(file);
  const api = await context.connect();
  const written = await api.putSessionFile(place, bytes);
  output.answer(written, () => [`${written.path} has ${written.bytes} bytes`]);
  return EXIT.ok;
}

/** `kiln session files rm`. @returns exit code */
export async function removeFile(
  context: CliContext,
  output: CommandOutput,
  { thread, path, project }: SessionFilePlace,
): Promise<number> {
  const api = await context.connect();
  const removed = await api.deleteSessionFile({ params: { thread, path }, query: defined({ project }) });
  output.answer(removed, () => [`${removed.path} is removed`]);
  return EXIT.ok;
}
