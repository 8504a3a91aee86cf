/** Takes what a workspace is into the spool of its host. */
import { join } from 'node:path';
import { abortable, eitherSignal } from '../../concurrency/deadline.ts';
import { readAhead } from '../../concurrency/read-ahead.ts';
import { LISTED_SKIPPED, type PackInfo, type SaveTree } from '../../contracts/store/save-documents.ts';
import { defined } from '../../domain/defined.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import type { SaveMark } from '../../domain/session/save-book.ts';
import { type SkippedPath, WORKSPACE_LIMITS } from '../../domain/session/workspace.ts';
import { syncDirectory } from '../../linux/sync-directory.ts';
import type { SaveRecord, SaveSummary, WorkspaceAgent } from '../../ports/guest-agent.ts';
import type { SpooledSave, WorkspaceOf } from '../../ports/saves.ts';
import { chunkId, frameOf, undefinedIfCorrupt } from '../../store/sessions/saves/packs.ts';
import { encodedTree } from '../../store/sessions/saves/trees.ts';
import type { HostLogger } from '../host-logger.ts';
import { createManifestFile, manifestOf } from './manifest-files.ts';
import { createPackWriter } from './pack-writer.ts';
import { createSaveMerge, type MergedSave, type SaveMerge, type SentChunk, sentChunk } from './save-merge.ts';
import { type Spool, type SpooledFiles, writeSafely } from './spool.ts';

/** The folder of a guest that is saved. */
export const WORKSPACE = '/workspace';

export interface SnapshotContext {
  readonly spool: Spool;
  readonly agent: WorkspaceAgent;
  readonly of: WorkspaceOf;
  readonly mark: SaveMark;
  readonly saltHex: string;
  readonly packBytes: number;
  readonly wasteBytes: number;
  /** Whether everything is saved anew, whatever the agent knows. */
  readonly isWhole: boolean;
  readonly clock: () => number;
  readonly signal: AbortSignal;
  readonly logger: HostLogger;
}

interface Base {
  readonly files: SpooledFiles;
  readonly tree: SaveTree;
}

/** @returns what is in the spool of a whole save */
export async function spooledSave(spool: Spool, save: SpooledFiles): Promise<SpooledSave> {
  const { tree } = await spool.tree(save);
  const { consistency, entries, bytes, skipped } = tree;
  const { turn, n } = save.place;
  return { mark: { turn, n }, consistency, entries, bytes, newBytes: save.note.newBytes, skipped: skipped.count };
}

export interface TakenSnapshot {
  readonly save: SpooledSave;
  /** Whether its packs hold so much that it does not need that the next save should be whole. */
  readonly isWasteful: boolean;
}

/** Saves what differs from the newest save of the spool, where that is what the agent knows; otherwise everything. */
export async function takeSnapshot(context: SnapshotContext): Promise<TakenSnapshot> {
  const base = context.isWhole ? undefined : await baseFor(context);
  if (base === undefined) return await attempt(context, undefined);
  try {
    return await attempt(context, base);
  } catch (error) {
    // Only what this host has of the save before can be damaged here.
    if (!isKilnError(error, 'SESSION_CORRUPT')) throw error;
    context.logger.warn({ vmId: context.of.vmId, reason: error.message }, 'a workspace is saved whole again');
    return await attempt(context, undefined);
  }
}

/**
 * Only the newest: what a save before it needs and it does not may be gone. Whether the agent knows it, it says itself.
 */
async function baseFor({ spool, saltHex }: SnapshotContext): Promise<Base | undefined> {
  const files = (await spool.wholeSaves()).at(-1);
  const tree = files && (await spool.tree(files).catch(undefinedIfCorrupt))?.tree;
  return files !== undefined && tree?.saltHex === saltHex ? { files, tree } : undefined;
}

async function attempt(context: SnapshotContext, base: Base | undefined): Promise<TakenSnapshot> {
  const saveId = await context.spool.begin(context.mark);
  try {
    return await save(context, saveId, base);
  } catch (error) {
    // Its bytes must not stay, least of all on a full disk.
    await context.spool.discard(saveId).catch(() => undefined);
    throw error;
  }
}

async function save(context: SnapshotContext, saveId: string, base: Base | undefined): Promise<TakenSnapshot> {
  const { spool, agent, signal, saltHex, packBytes } = context;
  const directory = join(spool.directory, saveId);
  const baseSaveId = base?.files.note.saveId;
  const request = { path: WORKSPACE, saveId, saltHex, ...defined({ baseSaveId }) };
  const over = new AbortController();
  const records = untilAborted(agent.saveWorkspace(request), eitherSignal(signal, over.signal));
  const packs = createPackWriter({ directory, saveId, packBytes });
  const manifest = await createManifestFile(directory);
  let merge: SaveMerge | undefined;
  try {
    const first = await records.next();
    if (first.done === true || first.value.kind !== 'opened') throw refused('does not begin');
    if (first.value.delta && base === undefined) throw refused('differs from a save that nobody has');
    const used = first.value.delta ? base : undefined;
    const pieces = createPieces(used, saltHex, { packs, manifest });
    merge = createSaveMerge({
      ...defined({ base: used && { entries: () => manifestOf(used.files, used.tree) } }),
      maxChunks: WORKSPACE_LIMITS.chunks,
      pack: packs.add,
      onPiece: pieces.add,
    });
    const told = await mergeAll(packed(records, saltHex), merge, first.value.delta);
    const merged = await merge.finish();
    assertCounts(told.summary, merged);
    await manifest.finish();
    const needed = new Set([...merged.packs, ...pieces.all.map(({ place }) => place.pack)]);
    const own = await packs.finish(needed);
    const earlier = used?.tree.packs.filter(({ name }) => needed.has(name)) ?? [];
    const tree = treeOf(context, { saveId, merged, told, pieces: pieces.all, packs: [...earlier, ...own] });
    return { save: await complete(context, tree, own), isWasteful: isWasteful(context, tree, merged) };
  } finally {
    // What the agent still says, nobody waits for.
    over.abort();
    await merge?.close();
    await manifest.close();
  }
}

/** Packs may hold so many times what a save needs. */
const MAX_WASTE = 4;

/** A pack stays as long as one chunk of it is needed; only a whole save leaves the others behind. */
function isWasteful(
  { wasteBytes }: SnapshotContext,
  { packs, pieces }: SaveTree,
  { packedBytes }: MergedSave,
): boolean {
  const stored = packs.reduce((total, { bytes }) => total + bytes, 0);
  const needed = pieces.reduce((total, { place }) => total + place.length, packedBytes);
  return stored > MAX_WASTE * needed + wasteBytes;
}

/** Makes the save whole: `save.json` comes last. */
async function complete(
  { spool, of, mark }: SnapshotContext,
  tree: SaveTree,
  own: readonly PackInfo[],
): Promise<SpooledSave> {
  const { saveId, consistency, entries, bytes, skipped } = tree;
  const directory = join(spool.directory, saveId);
  const { data, sha256 } = encodedTree(tree);
  await writeSafely(join(directory, 'tree.json'), data);
  await syncDirectory(directory);
  const newBytes = own.reduce((sum, pack) => sum + pack.bytes, 0);
  await spool.complete({ saveId, vmId: of.vmId, newBytes, treeSha256: sha256 });
  return { mark, consistency, entries, bytes, newBytes, skipped: skipped.count };
}

interface Told {
  readonly summary: SaveSummary;
  readonly skipped: readonly SkippedPath[];
}

/** Chunks that are packed, or wait for it, at a time. */
const AHEAD = 8;

type PackedRecord = Exclude<SaveRecord, { kind: 'chunk' }> | { readonly kind: 'chunk'; readonly chunk: SentChunk };

/** Packing takes longest, and does not depend on what came before. */
function packed(records: AsyncIterable<SaveRecord>, saltHex: string): AsyncIterable<PackedRecord> {
  const salt = Buffer.from(saltHex, 'hex');
  return readAhead(records, AHEAD, async (record) =>
    record.kind === 'chunk' ? { kind: 'chunk', chunk: await sentChunk(salt, record.data) } : record,
  );
}

async function mergeAll(records: AsyncIterable<PackedRecord>, merge: SaveMerge, isDelta: boolean): Promise<Told> {
  const skipped: SkippedPath[] = [];
  let summary: SaveSummary | undefined;
  for await (const record of records) {
    if (summary !== undefined) throw refused('goes on after its end');
    if (record.kind === 'chunk') await merge.chunk(record.chunk);
    else if (record.kind === 'entry') await merge.entry(record.entry);
    else if (record.kind === 'removed' && isDelta) await merge.removed(record.path);
    else if (record.kind === 'skipped') {
      if (skipped.length < LISTED_SKIPPED) skipped.push(record.skipped);
    } else if (record.kind === 'done') summary = record.summary;
    else throw refused(`has a record ${record.kind} out of place`);
  }
  if (summary === undefined) throw refused('breaks off');
  return { summary, skipped };
}

/** Agent and host count by themselves: where they differ, they do not speak of the same tree. */
function assertCounts(summary: SaveSummary, merged: MergedSave): void {
  if (summary.entries === merged.entries && summary.bytes === merged.bytes) return;
  const [theirs, ours] = [summary, merged].map(({ entries, bytes }) => `${entries} entries and ${bytes} bytes`);
  throw refused(`has ${theirs} for the agent, and ${ours} for its host`);
}

type Piece = SaveTree['pieces'][number];

/** Pieces of the manifest that the save before has are not stored again. */
function createPieces(
  base: Base | undefined,
  saltHex: string,
  to: {
    readonly packs: { add(frame: Buffer): Promise<Piece['place']> };
    readonly manifest: { add(piece: Buffer): Promise<void> };
  },
) {
  const known = new Map(base?.tree.pieces.map((piece) => [piece.id, piece]));
  const salt = Buffer.from(saltHex, 'hex');
  const all: Piece[] = [];
  return {
    all,
    async add(data: Buffer): Promise<void> {
      const id = chunkId(salt, data);
      const piece = known.get(id) ?? { id, bytes: data.length, place: await to.packs.add(await frameOf(data)) };
      known.set(id, piece);
      all.push(piece);
      await to.manifest.add(data);
    },
  };
}

function treeOf(
  { of, mark, saltHex, clock }: SnapshotContext,
  parts: {
    readonly saveId: string;
    readonly merged: MergedSave;
    readonly told: Told;
    readonly pieces: Piece[];
    readonly packs: PackInfo[];
  },
): SaveTree {
  const { saveId, merged, told, pieces, packs } = parts;
  const { project, thread, incarnation } = of.session;
  return {
    schemaVersion: 1,
    session: { project, thread, incarnation },
    epoch: of.epoch,
    turn: mark.turn,
    saveId,
    saltHex,
    consistency: told.summary.changed > 0 ? 'live' : 'quiesced',
    at: new Date(clock()).toISOString(),
    entries: merged.entries,
    bytes: merged.bytes,
    skipped: {
      count: Math.max(told.summary.skipped, told.skipped.length),
      first: told.skipped.map(({ path, type }) => ({ path: Buffer.from(path, 'latin1').toString('base64'), type })),
    },
    pieces,
    packs,
  };
}

/** The records, as long as nobody gives up; a guest may never answer. */
async function* untilAborted<T>(from: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T, undefined> {
  const records = from[Symbol.asyncIterator]();
  try {
    for (;;) {
      signal.throwIfAborted();
      const next = await abortable(records.next(), signal);
      if (next.done === true) return undefined;
      yield next.value;
    }
  } finally {
    // Not waited for: it may hang with what was given up.
    records.return?.().then(undefined, () => undefined);
  }
}

function refused(what: string): KilnError {
  return new KilnError('AGENT_PROTOCOL', `The save of a workspace ${what}.`);
}
