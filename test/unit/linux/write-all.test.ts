/** A write may take only part of the data; the rest must still be written. */
import { createHash } from 'node:crypto';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type PositionedWriter, writeAll } from '../../../linux/write-all.ts';
import { download } from '../../../rootfs/image/image-files.ts';
import type { ImageStore } from '../../../rootfs/image/image-store.ts';
import type { ImageFile } from '../../../rootfs/image/manifest.ts';
import { writeSparseImage } from '../../../rootfs/provisioners/sparse-image.ts';

const DATA = Buffer.from(Array.from({ length: 200_000 }, (_, index) => 1 + (index % 251)));

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'kw-'));
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(directory, { recursive: true });
});

/** From now on, every write in this process takes only half of its data. */
async function halveWrites(): Promise<void> {
  const file = await open(join(directory, 'any'), 'w');
  await file.close();
  const handles: PositionedWriter = Object.getPrototypeOf(file);
  const whole = handles.write;
  vi.spyOn(handles, 'write').mockImplementation(function (this: PositionedWriter, data, offset, length, position) {
    return whole.call(this, data, offset, Math.ceil(length / 2), position);
  });
}

describe('a write that takes only a part', () => {
  it('is followed by others until all is written', async () => {
    const content = Buffer.alloc(DATA.length + 7);
    const write = vi.fn(async (data: Buffer, offset: number, length: number, position: number) => {
      const bytesWritten = data.copy(content, position, offset, offset + Math.ceil(length / 2));
      return { bytesWritten };
    });
    await writeAll({ write }, DATA, 7);
    expect(content.equals(Buffer.concat([Buffer.alloc(7), DATA]))).toBe(true);
    expect(write.mock.calls.length).toBeGreaterThan(1);
  });

  it('leaves no hole in a file of an image that is unpacked from the store', async () => {
    const refused = () => Promise.reject(new Error('not asked for'));
    const store: ImageStore = {
      readDocument: refused,
      writeDocument: refused,
      putBlob: refused,
      readBlob: refused,
      headBlob: refused,
      listAll: () => {
        throw new Error('not asked for');
      },
      openBlob: async () => ({ stream: Readable.from([zstdCompressSync(DATA)]) }),
    };
    const sha256 = createHash('sha256').update(DATA).digest('hex');
    const file: ImageFile = { name: 'rootfs.ext4', bytes: DATA.length, sha256 };
    await halveWrites();
    await download(store, 'sha256:0', file, join(directory, 'rootfs.ext4'));
    expect((await readFile(join(directory, 'rootfs.ext4'))).equals(DATA)).toBe(true);
  });

  it('leaves no hole in a new disk', async () => {
    await halveWrites();
    const pieces = [
      { at: 0, data: DATA.subarray(0, 4096) },
      { at: 8192, data: DATA },
    ];
    await writeSparseImage(join(directory, 'disk'), { size: 1 << 20, pieces });
    const expected = Buffer.alloc(1 << 20);
    for (const { at, data } of pieces) data.copy(expected, at);
    expect((await readFile(join(directory, 'disk'))).equals(expected)).toBe(true);
  });
});
