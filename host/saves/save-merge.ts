/**
 * Makes the manifest of a save from that of the save before and from what the agent has sent. The guest is not trusted:
 * ids are computed here, and an entry may only name chunks that this host has or has just got.
 */
import type { FramePlace } from '../../contracts/store/save-documents.ts';
import { KilnError } from '../../domain/failures.ts';
import {
  bytesOfEntry,
  type Chunk,
  createWorkspaceCheck,
  isWorkspacePath,
  WORKSPACE_LIMITS,
  type WorkspaceEntry,
  withHolesJoined,
} from '../../domain/session/workspace.ts';
import { createPieceCutter, manifestLine, type SavedEntry } from '../../store/sessions/saves/manifest.ts';
import { chunkId, frameOf, type PackedChunk } from '../../store/sessions/saves/packs.ts';
import type { ManifestEntry } from './manifest-files.ts';

/** What is known of the save before. */
export interface MergeBase {
  /** Reads its manifest anew each time. */
  entries(): AsyncIterable<ManifestEntry[]>;
}

export interface MergeOptions {
  /** Absent: everything comes from the agent. */
  readonly base?: MergeBase;
  /** Most chunks that the agent may send; each is remembered until the end. */
  readonly maxChunks: number;
  /** Puts the frame of a chunk into a pack. */
  readonly pack: (frame: Buffer) => Promise<FramePlace>;
  /** Takes a piece of the manifest. */
  readonly onPiece: (piece: Buffer) => Promise<void>;
}

/** A chunk from the agent, with what does not depend on what else has come. */
export interface SentChunk extends Chunk {
  readonly frame: Buffer;
}

/** @returns a chunk whose id is computed here. @throws AGENT_PROTOCOL */
export async function sentChunk(salt: Buffer, data: Buffer): Promise<SentChunk> {
  if (data.length === 0 || data.length > WORKSPACE_LIMITS.chunkBytes) throw refused('a chunk', 'has a wrong length');
  return { id: chunkId(salt, data), bytes: data.length, frame: await frameOf(data) };
}

export interface SaveMerge {
  chunk(chunk: SentChunk): Promise<void>;
  entry(entry: WorkspaceEntry): Promise<void>;
  removed(path: string): Promise<void>;
  /** @returns what the save holds in all */
  finish(): Promise<MergedSave>;
  /** Lets go of the save before, however this ended. */
  close(): Promise<void>;
}

export interface MergedSave {
  readonly entries: number;
  readonly bytes: number;
  /** Packs that the chunks of its files are in. */
  readonly packs: ReadonlySet<string>;
  /** What the chunks of its files take in them; one that several files have counts for each. */
  readonly packedBytes: number;
}

/** @returns a merge that takes records in the order of their paths. Every method @throws AGENT_PROTOCOL, SESSION_CORRUPT of the base */
export function createSaveMerge(options: MergeOptions): SaveMerge {
  return new Merge(options);
}

class Merge implements SaveMerge {
  private readonly options: MergeOptions;
  private readonly check = createWorkspaceCheck();
  private readonly cutter = createPieceCutter();
  private readonly sent = new Map<string, PackedChunk>();
  private readonly packs = new Set<string>();
  private inBase: Promise<ReadonlyMap<string, PackedChunk>> | undefined;
  private readonly before: BaseCursor;
  private sentBytes = 0;
  private entries = 0;
  private bytes = 0;
  private packedBytes = 0;

  constructor(options: MergeOptions) {
    this.options = options;
    this.before = new BaseCursor(options.base?.entries());
  }

  async chunk({ id, bytes, frame }: SentChunk): Promise<void> {
    this.sentBytes += bytes;
    if (this.sentBytes > WORKSPACE_LIMITS.bytes) throw refused('a save', 'has more bytes than a workspace may');
    if (this.sent.size >= this.options.maxChunks) throw refused('a save', 'has more chunks than a workspace may');
    if (this.sent.has(id)) throw refused('a chunk', 'comes twice');
    this.sent.set(id, { id, bytes, place: await this.options.pack(frame) });
  }

  async entry(entry: WorkspaceEntry): Promise<void> {
    this.assertPath(entry.path);
    await this.keepBefore(entry.path);
    if ((await this.before.peek())?.entry.path === entry.path) this.before.skip();
    const saved = await this.placed(entry);
    await this.emit(saved, manifestLine(saved));
  }

  async removed(path: string): Promise<void> {
    this.assertPath(path);
    await this.keepBefore(path);
    if ((await this.before.peek())?.entry.path !== path) throw refused(nameOf(path), 'is removed, and was not there');
    this.before.skip();
  }

  async finish(): Promise<MergedSave> {
    await this.keepBefore(undefined);
    const piece = this.cutter.end();
    if (piece === undefined) throw refused('a save', 'has no entry');
    await this.options.onPiece(piece);
    const { entries, bytes, packs, packedBytes } = this;
    return { entries, bytes, packs, packedBytes };
  }

  close(): Promise<void> {
    return this.before.close();
  }

  private assertPath(path: string): void {
    if (!isWorkspacePath(path)) throw refused(nameOf(path), 'is no path in a workspace');
  }

  /** What the save before had in front of a path, and nobody has changed, stays. */
  private async keepBefore(path: string | undefined): Promise<void> {
    for (;;) {
      const next = await this.before.peek();
      if (next === undefined || (path !== undefined && next.entry.path >= path)) return;
      await this.emit(next.entry, next.line);
      this.before.skip();
    }
  }

  private async emit(entry: SavedEntry, line: string): Promise<void> {
    const wrong = this.check(entry);
    if (wrong !== undefined) throw refused(nameOf(entry.path), wrong);
    this.entries += 1;
    this.bytes += bytesOfEntry(entry);
    if (entry.type === 'file') {
      for (const { place } of entry.chunks) {
        if (place === undefined) continue;
        this.packs.add(place.pack);
        this.packedBytes += place.length;
      }
    }
    const piece = this.cutter.add(entry.path, line);
    if (piece !== undefined) await this.options.onPiece(piece);
  }

  private async placed(entry: WorkspaceEntry): Promise<SavedEntry> {
    if (entry.type !== 'file') return entry;
    const chunks: PackedChunk[] = [];
    for (const chunk of entry.chunks) {
      const found = chunk.id === '' ? { id: '', bytes: chunk.bytes } : await this.find(chunk.id);
      if (found === undefined) throw refused(nameOf(entry.path), 'names a chunk that did not come');
      if (found.bytes !== chunk.bytes || chunk.bytes < 1) throw refused(nameOf(entry.path), 'names a wrong length');
      chunks.push(found);
    }
    return { ...entry, chunks: withHolesJoined(chunks) };
  }

  private async find(id: string): Promise<PackedChunk | undefined> {
    const sent = this.sent.get(id);
    if (sent !== undefined || this.options.base === undefined) return sent;
    this.inBase ??= chunksIn(this.options.base);
    return (await this.inBase).get(id);
  }
}

async function chunksIn(base: MergeBase): Promise<Map<string, PackedChunk>> {
  const chunks = new Map<string, PackedChunk>();
  for await (const entries of base.entries()) {
    for (const { entry } of entries) {
      if (entry.type !== 'file') continue;
      for (const chunk of entry.chunks) if (chunk.place !== undefined) chunks.set(chunk.id, chunk);
    }
  }
  return chunks;
}

/** Reads the entries of the save before, one by one. */
class BaseCursor {
  private readonly pieces: AsyncIterator<ManifestEntry[]> | undefined;
  private piece: readonly ManifestEntry[] = [];
  private at = 0;
  private isOver: boolean;

  constructor(pieces: AsyncIterable<ManifestEntry[]> | undefined) {
    this.pieces = pieces?.[Symbol.asyncIterator]();
    this.isOver = pieces === undefined;
  }

  /** @returns the next entry, which stays the next until it is skipped */
  async peek(): Promise<ManifestEntry | undefined> {
    while (this.at >= this.piece.length && !this.isOver) {
      const next = await this.pieces?.next();
      this.isOver = next?.done !== false;
      this.piece = next?.done === false ? next.value : [];
      this.at = 0;
    }
    return this.piece[this.at];
  }

  skip(): void {
    this.at += 1;
  }

  async close(): Promise<void> {
    await this.pieces?.return?.();
  }
}

const nameOf = (path: string): string => JSON.stringify(path.slice(-200));

function refused(what: string, wrong: string): KilnError {
  return new KilnError('AGENT_PROTOCOL', `The agent saves its workspace wrongly: ${what} ${wrong}.`);
}
