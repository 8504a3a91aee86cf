import { randomUUID } from 'node:crypto';
import { constants, createWriteStream, openAsBlob } from 'node:fs';
import { access, rename, rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { KilnClient } from '../../client/http/kiln-client.ts';
import type { ReadPlace, SessionFilePlace } from '../../client/http/sessions/files.ts';
import { defined } from '../../domain/defined.ts';
import { KilnError, messageOf } from '../../domain/failures.ts';
import { type ByteSink, type CliContext, EXIT, UsageError } from '../cli-context.ts';
import type { CommandOutput } from '../command-output.ts';
import { textColumns } from '../terminal/text-columns.ts';

/** `kiln session files ls`. @returns exit code */
export async function listFiles(
  context: CliContext,
  output: CommandOutput,
  {
    thread,
    dir,
    project,
    turn,
  }: { readonly thread: string; readonly dir?: string; readonly project?: string; readonly turn?: number },
): Promise<number> {
  const api = await context.connect();
  const query = defined({ dir, project });
  const listing =
    turn === undefined
      ? await api.listSessionFiles({ params: { thread }, query })
      : await api.listTurnFiles({ params: { thread, turn }, query });
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
  place: ReadPlace,
  file: string | undefined,
): Promise<number> {
  const api = await context.connect();
  const content = await api.getSessionFile(place);
  if (file === undefined) return printed(context, content);
  await save(content, file);
  output.answer({ path: place.path, file }, () => [`${place.path} is in ${file}`]);
  return EXIT.ok;
}

/** `kiln session turns`. @returns exit code */
export async function listTurns(
  context: CliContext,
  output: CommandOutput,
  { thread, project }: { readonly thread: string; readonly project?: string },
): Promise<number> {
  const api = await context.connect();
  const { items } = await api.listTurns({ params: { thread }, query: defined({ project }) });
  const views = await Promise.all(
    items.map(({ turn }) => api.getTurn({ params: { thread, turn }, query: defined({ project }) })),
  );
  output.answer({ items: views }, () =>
    textColumns(
      ['TURN', 'SAVED', 'ENTRIES', 'BYTES', 'NOT SAVED'],
      views.map(({ turn, savedAt, entries, bytes, skipped }) => [
        String(turn),
        savedAt,
        String(entries),
        String(bytes),
        String(skipped.count),
      ]),
    ),
  );
  return EXIT.ok;
}

/** `kiln session tar`: of a turn, or else of the newest that is kept. @returns exit code @throws NOT_FOUND */
export async function getTar(
  context: CliContext,
  output: CommandOutput,
  { thread, project, turn }: { readonly thread: string; readonly project?: string; readonly turn?: number },
  file: string | undefined,
): Promise<number> {
  const api = await context.connect();
  const of = turn ?? (await newestTurn(api, { thread, ...defined({ project }) }));
  const tar = await api.getTurnTar({ thread, turn: of, ...defined({ project }) });
  if (file === undefined) return printed(context, tar);
  await save(tar, file);
  output.answer({ turn: of, file }, () => [`the workspace after turn ${of} is in ${file}`]);
  return EXIT.ok;
}

async function newestTurn(
  api: Pick<KilnClient, 'listTurns'>,
  { thread, project }: { readonly thread: string; readonly project?: string },
): Promise<number> {
  const { items } = await api.listTurns({ params: { thread }, query: defined({ project }) });
  const [newest] = items;
  if (newest !== undefined) return newest.turn;
  throw new KilnError('NOT_FOUND', `Nothing of ${thread} is saved yet; \`kiln session sleep ${thread}\` saves it.`);
}

async function printed(context: CliContext, content: ReadableStream<Uint8Array>): Promise<number> {
  const { stdout } = context;
  for await (const chunk of content) {
    if (stdout.write(chunk) === false) await drained(stdout);
  }
  return EXIT.ok;
}

/** A reader who goes away meanwhile ends the program: see `begin` of the context. */
async function drained(stdout: ByteSink): Promise<void> {
  await new Promise<void>((resolve) => {
    if (stdout.once === undefined) resolve();
    else stdout.once('drain', resolve);
  });
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
