/** Reads chunks from the packs in the store, those that lie side by side in one call. */
import { readAhead } from '../../../concurrency/read-ahead.ts';
import type { FramePlace, PackInfo } from '../../../contracts/store/save-documents.ts';
import { isKilnError } from '../../../domain/failures.ts';
import { type SessionName, storeKeys } from '../../../domain/names.ts';
import type { ObjectStore } from '../../object-store.ts';
import { chunkOf, type PackedChunk, saveCorrupt } from './packs.ts';

export interface ChunkReader {
  /** @returns the data of one chunk, checked. @throws SESSION_CORRUPT, STORE_UNAVAILABLE, the reason of the signal */
  readOne(chunk: PackedChunk & { readonly place: FramePlace }, signal: AbortSignal): Promise<Buffer>;
  /**
   * The chunks in their order, each with its data, checked; a hole has none.
   * @throws SESSION_CORRUPT, STORE_UNAVAILABLE, the reason of the signal
   */
  readAll(chunks: AsyncIterable<PackedChunk>, signal: AbortSignal): AsyncGenerator<ReadChunk, undefined>;
}

export interface ReadChunk {
  readonly bytes: number;
  readonly data?: Buffer;
}

/** Most bytes that one call brings, packed and unpacked, where more than one chunk comes. */
const STRETCH_BYTES = 4 * 1024 * 1024;
/** Calls at a time for one reader. */
const AHEAD = 2;

export function createChunkReader(
  store: Pick<ObjectStore, 'readPart'>,
  { session, packs, saltHex }: { session: SessionName; packs: readonly PackInfo[]; saltHex: string },
): ChunkReader {
  const salt = Buffer.from(saltHex, 'hex');
  const lengths = new Map(packs.map(({ name, bytes }) => [name, bytes]));

  const read = async ({ pack, offset, length }: FramePlace, signal: AbortSignal): Promise<Buffer> => {
    if (offset + length > (lengths.get(pack) ?? 0)) throw saveCorrupt(`a chunk lies outside of pack ${pack}`);
    const key = storeKeys.savePack(session, pack);
    const data = await store.readPart(key, { offset, length }, signal).catch((error: unknown) => {
      // The store calls a request that was broken off an outage.
      signal.throwIfAborted();
      if (!isKilnError(error, 'NOT_FOUND')) throw error;
      throw saveCorrupt(`pack ${pack} is gone from the store`, error);
    });
    if (data.length !== length) throw saveCorrupt(`pack ${pack} breaks off`);
    return data;
  };

  const readStretch = async (stretch: Stretch, signal: AbortSignal): Promise<ReadChunk[]> => {
    const { place, chunks } = stretch;
    if (place === undefined) return chunks.map(({ bytes }) => ({ bytes }));
    const frames = await read(place, signal);
    const found: ReadChunk[] = [];
    for (const chunk of chunks) {
      const from = (chunk.place?.offset ?? 0) - place.offset;
      const frame = frames.subarray(from, from + (chunk.place?.length ?? 0));
      found.push({ bytes: chunk.bytes, data: await chunkOf(frame, chunk, salt) });
    }
    return found;
  };

  return {
    readOne: async (chunk, signal) => chunkOf(await read(chunk.place, signal), chunk, salt),
    async *readAll(chunks, signal) {
      for await (const found of readAhead(stretchesOf(chunks), AHEAD, (stretch) => readStretch(stretch, signal))) {
        signal.throwIfAborted();
        yield* found;
      }
      return undefined;
    },
  };
}

/** Chunks that one call brings; without a place, a hole. */
interface Stretch {
  readonly place?: FramePlace;
  readonly chunks: readonly PackedChunk[];
}

async function* stretchesOf(chunks: AsyncIterable<PackedChunk>): AsyncGenerator<Stretch, undefined> {
  let stretch: GrowingStretch | undefined;
  for await (const chunk of chunks) {
    const { place } = chunk;
    if (stretch !== undefined && place !== undefined && isNext(stretch, chunk.bytes, place)) {
      stretch.place = { ...stretch.place, length: stretch.place.length + place.length };
      stretch.bytes += chunk.bytes;
      stretch.chunks.push(chunk);
      continue;
    }
    if (stretch !== undefined) yield stretch;
    stretch = place && { place, bytes: chunk.bytes, chunks: [chunk] };
    if (place === undefined) yield { chunks: [chunk] };
  }
  if (stretch !== undefined) yield stretch;
}

interface GrowingStretch extends Stretch {
  place: FramePlace;
  /** Unpacked. */
  bytes: number;
  readonly chunks: PackedChunk[];
}

function isNext({ place, bytes }: GrowingStretch, more: number, next: FramePlace): boolean {
  const isBeside = place.pack === next.pack && place.offset + place.length === next.offset;
  return isBeside && place.length + next.length <= STRETCH_BYTES && bytes + more <= STRETCH_BYTES;
}
