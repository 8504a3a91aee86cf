/** Fills the workspace of a VM with the newest save that there is. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { abortable } from '../../concurrency/deadline.ts';
import { readAhead } from '../../concurrency/read-ahead.ts';
import { sideBySide } from '../../concurrency/side-by-side.ts';
import type { HeadSave, PackInfo, SaveTree } from '../../contracts/store/save-documents.ts';
import { KilnError } from '../../domain/failures.ts';
import { compareSaves, savePlaceOf } from '../../domain/session/head-rules.ts';
import type { Chunk, WorkspaceEntry } from '../../domain/session/workspace.ts';
import { syncDirectory } from '../../linux/sync-directory.ts';
import type { RestoreRecord, WorkspaceAgent } from '../../ports/guest-agent.ts';
import type { RestoredWorkspace, WorkspaceOf } from '../../ports/saves.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { markOfSave } from '../../store/sessions/saves/heads.ts';
import type { SavedEntry } from '../../store/sessions/saves/manifest.ts';
import { chunkOf, saveCorrupt, undefinedIfCorrupt } from '../../store/sessions/saves/packs.ts';
import { readTree } from '../../store/sessions/saves/trees.ts';
import { createManifestFile, entriesOf } from './manifest-files.ts';
import { FrameReader, linkPack, type PackCopies } from './pack-files.ts';
import { WORKSPACE } from './snapshot.ts';
import { type Spool, type SpooledFiles, writeSafely } from './spool.ts';

export interface RestoreContext {
  readonly of: WorkspaceOf;
  readonly spool: Spool;
  readonly agent: WorkspaceAgent;
  readonly store: Pick<ObjectStore, 'readBlob'>;
  readonly copies: (packs: readonly PackInfo[]) => PackCopies;
  readonly signal: AbortSignal;
}

/** The save to restore. */
export interface FoundSave {
  readonly tree: SaveTree;
  readonly data: Buffer;
  readonly sha256: string;
  readonly fetchedBytes: number;
  /** Whether the spool has it whole. */
  readonly isSpooled: boolean;
}

/** Packs that are brought at a time. */
const AT_ONCE = 4;

/** @returns the newest save: of the spool, or else what the head names; undefined where there is none */
export async function newestSave(
  { of, spool, store }: Pick<RestoreContext, 'of' | 'spool' | 'store'>,
  named: HeadSave | undefined,
): Promise<FoundSave | undefined> {
  const spooled = (await spool.wholeSaves()).at(-1);
  if (spooled !== undefined && !isNewer(named, spooled)) {
    const found = await spool.tree(spooled).catch((error: unknown) => {
      // The store has the same.
      if (named?.saveId === spooled.note.saveId) return undefinedIfCorrupt(error);
      throw error;
    });
    if (found !== undefined) return { ...found, sha256: spooled.note.treeSha256, fetchedBytes: 0, isSpooled: true };
  }
  if (named === undefined) return undefined;
  const { saveId, treeSha256: sha256 } = named;
  const { tree, data } = await readTree(store, { session: of.session, saveId, sha256 });
  return { tree, data, sha256, fetchedBytes: data.length, isSpooled: false };
}

function isNewer(named: HeadSave | undefined, spooled: SpooledFiles): boolean {
  const place = named && savePlaceOf(named.saveId);
  return place !== undefined && compareSaves(place, spooled.place) > 0;
}

/** Fills the workspace. Afterwards the spool has the manifest, so that the next save only brings what differs. */
export async function restoreSave(context: RestoreContext, save: FoundSave): Promise<RestoredWorkspace> {
  const { of, spool } = context;
  const { tree } = save;
  const packs = join(spool.directory, `restoring-${of.vmId}`);
  await rm(packs, { recursive: true, force: true });
  await mkdir(packs, { recursive: true, mode: 0o700 });
  const copies = context.copies(tree.packs);
  try {
    await linkAll(context, copies, tree.packs, packs);
    await (save.isSpooled ? fill(context, tree, packs) : fillAndKeep(context, save, packs));
  } finally {
    await rm(packs, { recursive: true, force: true });
  }
  const { entries, bytes } = tree;
  return { mark: markOfSave(tree), entries, bytes, fetchedBytes: save.fetchedBytes + copies.fetchedBytes };
}

/** Links, so that nobody takes them away in the middle. */
function linkAll(
  { spool, signal }: RestoreContext,
  copies: PackCopies,
  packs: readonly PackInfo[],
  directory: string,
): Promise<void> {
  return sideBySide(packs, AT_ONCE, async (pack) => {
    signal.throwIfAborted();
    await linkPack({ spool, copies }, pack, join(directory, pack.name));
  });
}

/** Fills the workspace while the save becomes one of the spool. */
async function fillAndKeep(context: RestoreContext, save: FoundSave, packs: string): Promise<void> {
  const { spool } = context;
  const { saveId } = save.tree;
  const directory = await spool.beginCopy(saveId);
  const manifest = await createManifestFile(directory);
  try {
    await fill(context, save.tree, packs, manifest.add);
    await manifest.finish();
  } finally {
    await manifest.close();
  }
  await writeSafely(join(directory, 'tree.json'), save.data);
  await syncDirectory(directory);
  await spool.noteUploaded(saveId);
  await spool.complete({ saveId, newBytes: 0, treeSha256: save.sha256 });
}

async function fill(
  { agent, signal }: RestoreContext,
  tree: SaveTree,
  packs: string,
  onPiece: (piece: Buffer) => Promise<void> = async () => undefined,
): Promise<void> {
  const { saveId, saltHex } = tree;
  const reader = new FrameReader(packs, tree.packs);
  let isWhole = false;
  const records = async function* (): AsyncGenerator<RestoreRecord> {
    yield* recordsOf(tree, framesOf(tree, reader, signal, onPiece));
    isWhole = true;
  };
  try {
    const restoring = agent.restoreWorkspace({ path: WORKSPACE, saveId, saltHex }, records());
    const { entries, bytes } = await abortable(restoring, signal);
    if (isWhole && entries === tree.entries && bytes === tree.bytes) return;
    throw new KilnError(
      'AGENT_PROTOCOL',
      `The agent restored ${entries} entries of ${tree.entries} of save ${saveId}.`,
    );
  } finally {
    await reader.close();
  }
}

type PackedRecord =
  | Extract<RestoreRecord, { kind: 'entry' }>
  | { readonly kind: 'frame'; readonly frame: Buffer; readonly chunk: Chunk };

/** Chunks that are unpacked, or wait for it, at a time. */
const AHEAD = 8;

function recordsOf(tree: SaveTree, frames: AsyncIterable<PackedRecord>): AsyncIterable<RestoreRecord> {
  const salt = Buffer.from(tree.saltHex, 'hex');
  return readAhead(frames, AHEAD, async (record) =>
    record.kind === 'entry' ? record : { kind: 'chunk', data: await chunkOf(record.frame, record.chunk, salt) },
  );
}

async function* framesOf(
  tree: SaveTree,
  reader: FrameReader,
  signal: AbortSignal,
  onPiece: (piece: Buffer) => Promise<void>,
): AsyncGenerator<PackedRecord> {
  const salt = Buffer.from(tree.saltHex, 'hex');
  let entries = 0;
  for (const { place, ...ofPiece } of tree.pieces) {
    const piece = await chunkOf(await reader.read(place), ofPiece, salt);
    await onPiece(piece);
    for (const { entry } of entriesOf(piece)) {
      signal.throwIfAborted();
      entries += 1;
      yield { kind: 'entry', entry: plain(entry) };
      for (const { place: at, ...chunk } of entry.type === 'file' ? entry.chunks : []) {
        if (at !== undefined) yield { kind: 'frame', frame: await reader.read(at), chunk };
      }
    }
  }
  if (entries !== tree.entries) throw saveCorrupt(`its manifest has ${entries} entries of ${tree.entries}`);
}

/** Where its chunks lie is no matter of the guest. */
function plain(entry: SavedEntry): WorkspaceEntry {
  if (entry.type !== 'file') return entry;
  return { ...entry, chunks: entry.chunks.map(({ id, bytes }) => ({ id, bytes })) };
}
