/** A guest runs on the digest that its workload pins, for as long as it runs, however often the tag moves. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readSetupRecord } from '../../config/setup-record.ts';
import { storeKeys } from '../../domain/names.ts';
import { createImageCatalog } from '../../rootfs/image/image-catalog.ts';
import { imageDirectory, listLocalImages } from '../../rootfs/image/local-images.ts';
import { MANIFEST_FILE } from '../../rootfs/image/manifest.ts';
import { runIn } from '../support/guest/guest-under-test.ts';
import { GuestHost } from '../support/host/guest-host.ts';

const NEWER = ['1', '2'].map((digit) => `sha256:${digit.repeat(64)}`);

describe('a pinned image', () => {
  let bed: GuestHost;
  beforeAll(async () => {
    bed = await GuestHost.start({ images: { keep: 0, idleMs: 0 }, templates: { mode: 'off' } });
  });
  afterAll(async () => {
    expect(await bed.close()).toEqual([]);
  });

  const moveTag = async (digest: string) => {
    const key = storeKeys.imageTag('node', 'latest');
    await bed.store.delete(key);
    await bed.store.writeDocument(key, { name: 'node', tag: 'latest', digest, publishedAt: new Date().toISOString() });
  };
  const version = async (vmId: string) =>
    (await runIn(await bed.host.vms.agent(vmId), ['node', '--version'], { cwd: '/' })).stdout;

  it('runs after its tag has moved twice, is kept while something runs on it, and comes again for the next', async () => {
    const { digest } = bed.image;
    const manifest = await readFile(
      join(imageDirectory(join(readSetupRecord().cacheDir, 'images'), digest), MANIFEST_FILE),
    );
    await bed.store.putBlob(storeKeys.imageManifest(digest), { data: manifest });
    await moveTag(digest);
    const catalog = createImageCatalog(bed.store);
    expect(await catalog.resolve('node')).toEqual({ name: 'node', digest });
    await bed.boot('a-1-1');
    for (const newer of NEWER) {
      await moveTag(newer);
      await bed.host.sweep();
    }
    expect(await catalog.resolve('node')).toMatchObject({ digest: NEWER[1] });
    expect(await catalog.resolve(`node@${digest}`)).toEqual({ name: 'node', digest });
    expect(await listLocalImages(bed.imagesDir)).toEqual([digest]);
    expect(await version('a-1-1')).toMatch(/^v24\./);
    await bed.release('a-1-1');
    await bed.host.sweep();
    expect(await listLocalImages(bed.imagesDir)).toEqual([]);
    await bed.boot('b-1-1');
    expect(await version('b-1-1')).toMatch(/^v24\./);
    await bed.release('b-1-1');
  });
});
