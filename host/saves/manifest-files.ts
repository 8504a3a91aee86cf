/** The manifest of a spooled save as a file: its pieces, one behind another. */
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { SaveTree } from '../../contracts/store/save-documents.ts';
import { writeAll } from '../../linux/write-all.ts';
import { entryOfLine, linesOf, type SavedEntry } from '../../store/sessions/saves/manifest.ts';
import { chunkId, saveCorrupt } from '../../store/sessions/saves/packs.ts';
import type { SpooledFiles } from './spool.ts';

export interface ManifestEntry {
  readonly entry: SavedEntry;
  /** As it stands in the manifest, with its end. */
  readonly line: string;
}

/** @returns the entries of a piece, in order. @throws SESSION_CORRUPT */
export function entriesOf(piece: Buffer): ManifestEntry[] {
  return linesOf(piece).map((line) => ({ entry: entryOfLine(line), line: `${line}\n` }));
}

/** The entries of a spooled save, a piece at a time. @throws SESSION_CORRUPT where the file is gone or damaged */
export async function* manifestOf(
  { directory, note }: Pick<SpooledFiles, 'directory' | 'note'>,
  tree: Pick<SaveTree, 'pieces' | 'saltHex'>,
): AsyncGenerator<ManifestEntry[]> {
  const salt = Buffer.from(tree.saltHex, 'hex');
  const file = await open(join(directory, 'manifest')).catch((error: unknown) => {
    throw saveCorrupt(`the manifest of ${note.saveId} cannot be read on this host`, error);
  });
  try {
    let at = 0;
    for (const { id, bytes } of tree.pieces) {
      const piece = Buffer.alloc(bytes);
      const { bytesRead } = await file.read(piece, 0, bytes, at);
      if (bytesRead !== bytes || chunkId(salt, piece) !== id) {
        throw saveCorrupt(`the manifest of ${note.saveId} has other bytes on this host`);
      }
      at += bytes;
      yield entriesOf(piece);
    }
  } finally {
    await file.close();
  }
}

export interface ManifestFile {
  add(piece: Buffer): Promise<void>;
  /** Makes it safe. */
  finish(): Promise<void>;
  close(): Promise<void>;
}

/** Begins the manifest of a save. */
export async function createManifestFile(directory: string): Promise<ManifestFile> {
  const file: FileHandle = await open(join(directory, 'manifest'), 'wx', 0o600);
  let bytes = 0;
  return {
    async add(piece) {
      await writeAll(file, piece, bytes);
      bytes += piece.length;
    },
    finish: () => file.sync(),
    close: () => file.close(),
  };
}
