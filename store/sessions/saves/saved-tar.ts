/** A saved workspace as a tar. */
import { Readable } from 'node:stream';
import type { ReadChunk } from './chunk-reader.ts';
import type { SavedEntry } from './manifest.ts';
import { entriesFrom } from './manifest-index.ts';
import { type PackedChunk, saveCorrupt } from './packs.ts';
import { END_OF_TAR, paddingAfter, type TarEntry, tarHeaderOf } from './pax-tar.ts';
import { zeros } from './saved-files.ts';
import type { SavedWorkspace } from './saved-workspace.ts';

/**
 * The whole workspace, below `./`, with names of any bytes, times in full, links, owners and attributes. Holes become
 * zeros.
 * @returns a stream that fails with SESSION_CORRUPT, STORE_UNAVAILABLE, the reason of the signal: what came before has
 *   no end then, which readers of tars notice
 */
export function tarOfSave(workspace: SavedWorkspace, signal: AbortSignal): Readable {
  return Readable.from(partsOf(workspace, signal), { objectMode: false });
}

async function* partsOf(workspace: SavedWorkspace, signal: AbortSignal): AsyncGenerator<Buffer, undefined> {
  const { pieces, chunks } = workspace;
  const data = chunks.readAll(chunksOf(entriesFrom(pieces, '')), signal);
  try {
    for await (const entry of entriesFrom(pieces, '')) {
      signal.throwIfAborted();
      yield tarHeaderOf(tarEntryOf(entry));
      if (entry.type !== 'file') continue;
      yield* contentOf(entry.chunks.length, data);
      yield paddingAfter(entry.size);
    }
    yield END_OF_TAR;
  } finally {
    await data.return(undefined);
  }
  return undefined;
}

async function* chunksOf(entries: AsyncIterable<SavedEntry>): AsyncGenerator<PackedChunk, undefined> {
  for await (const entry of entries) if (entry.type === 'file') yield* entry.chunks;
  return undefined;
}

async function* contentOf(
  count: number,
  data: AsyncGenerator<ReadChunk, undefined>,
): AsyncGenerator<Buffer, undefined> {
  for (let n = 0; n < count; n++) {
    const next = await data.next();
    if (next.done === true) throw saveCorrupt('its files have fewer chunks than its manifest');
    if (next.value.data !== undefined) yield next.value.data;
    else yield* zeros(next.value.bytes);
  }
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
