/** Writes frames of chunks into packs of a save, one pack in memory at a time. */
import { createHash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { FramePlace, PackInfo } from '../../contracts/store/save-documents.ts';
import { PACK_MAGIC } from '../../store/sessions/saves/packs.ts';
import { writeSafely } from './spool.ts';

export interface PackWriter {
  /** Puts a frame into a pack, for calls one after another. */
  add(frame: Buffer): Promise<FramePlace>;
  /** Makes everything safe; packs that nothing needs are removed. @returns the others */
  finish(needed: ReadonlySet<string>): Promise<PackInfo[]>;
}

/** @param packBytes a pack that would become longer by the next chunk ends */
export function createPackWriter(at: {
  readonly directory: string;
  readonly saveId: string;
  readonly packBytes: number;
}): PackWriter {
  const packs: PackInfo[] = [];
  let frames: Buffer[] = [PACK_MAGIC];
  let bytes = PACK_MAGIC.length;
  const name = () => `${at.saveId}-${packs.length}`;

  const endPack = async () => {
    if (frames.length === 1) return;
    const data = Buffer.concat(frames, bytes);
    frames = [PACK_MAGIC];
    bytes = PACK_MAGIC.length;
    const pack = { name: name(), bytes: data.length, sha256: createHash('sha256').update(data).digest('hex') };
    await writeSafely(join(at.directory, pack.name), data);
    packs.push(pack);
  };

  return {
    async add(frame) {
      if (bytes + frame.length > at.packBytes) await endPack();
      const place = { pack: name(), offset: bytes, length: frame.length };
      frames.push(frame);
      bytes += frame.length;
      return place;
    },
    async finish(needed) {
      await endPack();
      for (const pack of packs) {
        if (!needed.has(pack.name)) await rm(join(at.directory, pack.name), { force: true });
      }
      return packs.filter(({ name }) => needed.has(name));
    },
  };
}
