import { mkdtemp, open, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { digestDisk } from '../../../../host/disks/disk-digest.ts';

const MIB = 1 << 20;

describe('the digest of a disk', () => {
  let root: string;
  let path: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'kd-'));
    path = join(root, 'disk');
    await writeFile(path, '');
    await truncate(path, 3 * MIB + 100);
  });
  afterEach(() => rm(root, { recursive: true }));

  const write = async (at: number, text: string) => {
    const file = await open(path, 'r+');
    await file.write(text, at);
    await file.close();
  };

  it('is the same for a hole and for zeros that were written', async () => {
    const sparse = await digestDisk(path);
    await writeFile(path, Buffer.alloc(3 * MIB + 100));
    expect(await digestDisk(path)).toEqual(sparse);
    expect(sparse.bytes).toBe(3 * MIB + 100);
  });

  it('differs by one byte anywhere, by its place, and by the size', async () => {
    const seen = new Set([JSON.stringify(await digestDisk(path))]);
    for (const at of [0, 65_535, 65_536, MIB - 1, MIB, 2 * MIB + 77, 3 * MIB + 99]) {
      await write(at, 'x');
      seen.add(JSON.stringify(await digestDisk(path)));
      await write(at, '\0');
    }
    await write(MIB, 'y');
    seen.add(JSON.stringify(await digestDisk(path)));
    await truncate(path, 4 * MIB);
    seen.add(JSON.stringify(await digestDisk(path)));
    expect(seen.size).toBe(10);
  });
});
