/** A saved workspace as a tar. */
import { Readable } from 'node:stream';
import type { ReadChunk } from './chunk-reader.ts';
import type { SavedEntry } from './manifest.ts';
import { entriesFrom } from './manifest-index.ts';
import { type PackedChunk, saveCorrupt } from './packs.ts';
import { END_OF_TAR, paddingAfter, TAR_BLOCK, type TarEntry, tarHeaderOf } from './pax-tar.ts';
import { zeros } from './saved-files.ts';
import type { SavedWorkspace } from './saved-workspace.ts';

/**
 * The whole workspace, below `./`, with names of any bytes, times in full, links, owners and attributes. Holes become
 * zeros.
 * @returns a stream that fails with SESSION_CORRUPT, STORE_UNAVAILABLE, the reason of the signal: what came before ends
 *   in the middle of an entry then, which readers of tars notice
 */
export function tarOfSave(workspace: SavedWorkspace, signal: AbortSignal): Readable {
  return Readable.from(partsOf(workspace, signal), { objectMode: false });
}

/**
 * GNU tar takes a tar that breaks off between two entries, or before the header that follows attributes, for a whole one.
 * So the end of each entry waits for the next: with that come its first block and one byte of its attributes.
 */
const BEGINNING = TAR_BLOCK + 1;

async function* partsOf(workspace: SavedWorkspace, signal: AbortSignal): AsyncGenerator<Buffer, undefined> {
  const pieces = workspace.pieces({ signal });
  const data = workspace.chunks.readAll(chunksOf(entriesFrom(workspace.pieces({ signal }), '')), signal);
  let held: Buffer = Buffer.alloc(0);
  try {
    for await (const entry of entriesFrom(pieces, '')) {
      signal.throwIfAborted();
      const header = tarHeaderOf(tarEntryOf(entry));
      yield Buffer.concat([held, header.subarray(0, BEGINNING)]);
      held = header.subarray(BEGINNING);
      if (entry.type !== 'file' || entry.size === 0) continue;
      yield held;
      held = yield* allButLastByte(contentOf(entry, data));
    }
    yield Buffer.concat([held, END_OF_TAR]);
  } finally {
    await data.return(undefined);
  }
  return undefined;
}

/** @returns the last byte */
async function* allButLastByte(parts: AsyncIterable<Buffer>): AsyncGenerator<Buffer, Buffer> {
  let held: Buffer = Buffer.alloc(0);
  for await (const part of parts) {
    if (part.length === 0) continue;
    yield Buffer.concat([held, part.subarray(0, -1)]);
    held = part.subarray(-1);
  }
  return held;
}

async function* chunksOf(entries: AsyncIterable<SavedEntry>): AsyncGenerator<PackedChunk, undefined> {
  for await (const entry of entries) if (entry.type === 'file') yield* entry.chunks;
  return undefined;
}

/** The bytes of a file, up to the end of its last block. */
async function* contentOf(
  { chunks, size }: Extract<SavedEntry, { type: 'file' }>,
  data: AsyncGenerator<ReadChunk, undefined>,
): AsyncGenerator<Buffer, undefined> {
  for (let n = 0; n < chunks.length; n++) {
    const next = await data.next();
    if (next.done === true) throw saveCorrupt('its files have fewer chunks than its manifest');
    if (next.value.data !== undefined) yield next.value.data;
    else yield* zeros(next.value.bytes);
  }
  yield paddingAfter(size);
  return undefined;
}

/** Of a hard link, what counts stands at its file. */
const NOBODYS = { mode: 0o644, uid: 0, gid: 0, mtimeNs: 0n };

function tarEntryOf(entry: SavedEntry): TarEntry {
  const { type, path } = entry;
  const name = `./${path}`;
  if (type === 'hardlink') return { type, name, ...NOBODYS, size: 0, target: `./${entry.target}` };
  const { uid, gid } = entry;
  const common = { name, uid, gid, mtimeNs: BigInt(entry.mtimeNs), size: 0 };
  if (type === 'symlink') return { ...common, type, mode: 0o777, target: entry.target };
  const { mode, xattrs } = entry;
  const more = { mode, ...(xattrs === undefined ? {} : { xattrs }) };
  if (type === 'file') return { ...common, ...more, type, size: entry.size };
  return { ...common, ...more, type, name: path === '' ? './' : `${name}/` };
}
