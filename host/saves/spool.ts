/**
 * The saves of one placement of a session on this host: `<stateDir>/saves/<session>/<epoch>/`, with a folder for each
 * save. A save is whole once its `save.json` is there, which is written last.
 */
import { mkdir, open, readFile, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { z } from 'zod';
import {
  type SaveTree,
  type SpooledNote,
  type SpooledPlacement,
  spooledPlacementSchema,
  spooledSaveSchema,
  uploadedSchema,
} from '../../contracts/store/save-documents.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import { type SessionName, sessionId, sessionWorkflowId, shortHash } from '../../domain/names.ts';
import { compareSaves, type SavePlace, saveIdOf, savePlaceOf } from '../../domain/session/head-rules.ts';
import type { SaveMark } from '../../domain/session/save-book.ts';
import { directoryEntries, subdirectories } from '../../linux/directory-entries.ts';
import { readStateFile, removeStateFile, writeStateFile } from '../../linux/state-file.ts';
import { syncDirectory } from '../../linux/sync-directory.ts';
import type { WorkspaceOf } from '../../ports/saves.ts';
import { saveCorrupt } from '../../store/sessions/saves/packs.ts';
import { decodedTree } from '../../store/sessions/saves/trees.ts';

/** A save that is whole. */
export interface SpooledFiles {
  readonly place: SavePlace;
  readonly note: SpooledNote;
  readonly directory: string;
}

export interface Spool {
  readonly directory: string;
  placement(): Promise<SpooledPlacement | undefined>;
  notePlacement(salt: Pick<SpooledPlacement, 'saltHex' | 'hasClaimed'>): Promise<void>;
  /** Whole saves, the oldest first: those of this placement, and the one that it was filled with. */
  wholeSaves(): Promise<SpooledFiles[]>;
  /**
   * Makes the folder of a save, empty, and frees what other saves that never became whole have left.
   * @returns the id of the save
   */
  begin(mark: SaveMark): Promise<string>;
  /** The folder of a save, empty, for files that are brought here. */
  beginCopy(saveId: string): Promise<string>;
  /** Makes a save whole, when its other files are safe. */
  complete(note: Omit<SpooledNote, 'schemaVersion'>): Promise<void>;
  /** A save that a newer one makes needless goes. */
  remove(saveId: string): Promise<void>;
  /** A save that is damaged, or never became whole, is none any more. */
  discard(saveId: string): Promise<void>;
  tree(save: SpooledFiles): Promise<{ readonly tree: SaveTree; readonly data: Buffer }>;
  isUploaded(saveId: string): Promise<boolean>;
  noteUploaded(saveId: string): Promise<void>;
}

export function spoolOf(stateDir: string, { session, epoch }: Pick<WorkspaceOf, 'session' | 'epoch'>): Spool {
  return new FolderSpool(join(stateDir, 'saves', shortHash(sessionWorkflowId(session)), String(epoch)), session, epoch);
}

class FolderSpool implements Spool {
  readonly directory: string;
  private readonly session: SessionName;
  private readonly epoch: number;

  constructor(directory: string, session: SessionName, epoch: number) {
    this.directory = directory;
    this.session = session;
    this.epoch = epoch;
  }

  async placement(): Promise<SpooledPlacement | undefined> {
    const found = await readStateFile(join(this.directory, 'placement.json'), spooledPlacementSchema);
    if (found === undefined || sessionId(found.session) === sessionId(this.session)) return found;
    throw new KilnError('INTERNAL', `${this.directory} is of session ${sessionId(found.session)}.`);
  }

  async notePlacement({ saltHex, hasClaimed }: Pick<SpooledPlacement, 'saltHex' | 'hasClaimed'>): Promise<void> {
    const { project, thread, incarnation } = this.session;
    const session = { project, thread, incarnation };
    const placement = { schemaVersion: 1 as const, session, epoch: this.epoch, saltHex, hasClaimed };
    await this.write('placement.json', placement, spooledPlacementSchema);
    // Its folders may be new.
    await syncDirectory(dirname(this.directory));
    await syncDirectory(dirname(dirname(this.directory)));
  }

  async wholeSaves(): Promise<SpooledFiles[]> {
    const saves: SpooledFiles[] = [];
    for (const { place, directory } of await this.folders()) {
      const note = await readOrNothing(join(directory, 'save.json'), spooledSaveSchema);
      if (note?.saveId === saveIdOf(place)) saves.push({ place, note, directory });
    }
    return saves.sort((a, b) => compareSaves(a.place, b.place));
  }

  async begin({ turn, n }: SaveMark): Promise<string> {
    const saveId = saveIdOf({ epoch: this.epoch, turn, n });
    const before = (await this.folders()).filter(({ place }) => saveIdOf(place) !== saveId);
    await this.beginCopy(saveId);
    const whole = new Set((await this.wholeSaves()).map(({ note }) => note.saveId));
    for (const { place, directory } of before) {
      if (!whole.has(saveIdOf(place))) await rm(directory, { recursive: true, force: true });
    }
    return saveId;
  }

  async beginCopy(saveId: string): Promise<string> {
    const directory = join(this.directory, saveId);
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await syncDirectory(this.directory);
    return directory;
  }

  async complete(note: Omit<SpooledNote, 'schemaVersion'>): Promise<void> {
    await this.write(join(note.saveId, 'save.json'), { schemaVersion: 1, ...note }, spooledSaveSchema);
  }

  async remove(saveId: string): Promise<void> {
    const directory = join(this.directory, saveId);
    await removeStateFile(join(directory, 'save.json'));
    await rm(directory, { recursive: true, force: true });
  }

  async discard(saveId: string): Promise<void> {
    const directory = join(this.directory, saveId);
    await removeStateFile(join(directory, 'save.json'));
    for (const name of await directoryEntries(directory)) await rm(join(directory, name), { force: true });
  }

  async tree({ note, directory }: SpooledFiles): Promise<{ readonly tree: SaveTree; readonly data: Buffer }> {
    const data = await readFile(join(directory, 'tree.json')).catch((error: unknown) => {
      throw saveCorrupt(`tree ${note.saveId} cannot be read on this host`, error);
    });
    return { tree: decodedTree(data, { session: this.session, saveId: note.saveId, sha256: note.treeSha256 }), data };
  }

  async isUploaded(saveId: string): Promise<boolean> {
    return (await readOrNothing(join(this.directory, saveId, 'uploaded.json'), uploadedSchema)) !== undefined;
  }

  noteUploaded(saveId: string): Promise<void> {
    return this.write(join(saveId, 'uploaded.json'), { schemaVersion: 1 }, uploadedSchema);
  }

  private write<T>(name: string, value: NoInfer<T>, schema: z.ZodType<T>): Promise<void> {
    return writeStateFile(join(this.directory, name), schema.parse(value));
  }

  private async folders(): Promise<{ readonly place: SavePlace; readonly directory: string }[]> {
    const names = await subdirectories(this.directory);
    return names.flatMap((name) => {
      const place = savePlaceOf(name);
      return place === undefined ? [] : [{ place, directory: join(this.directory, name) }];
    });
  }
}

/** A note that is damaged says nothing: what it would save is done again. */
function readOrNothing<T>(path: string, schema: z.ZodType<T>): Promise<T | undefined> {
  return readStateFile(path, schema).catch((error: unknown) => {
    if (!isKilnError(error, 'INTERNAL')) throw error;
    return undefined;
  });
}

/** Writes a new file, safe on the disk; its folder is not. */
export async function writeSafely(path: string, data: Buffer): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(data);
    await file.sync();
  } finally {
    await file.close();
  }
}
