/** Images on their way from the machine that built them, through the store, to a host. */

import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdtemp, open, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, inject, it } from 'vitest';
import { defined } from '../../domain/defined.ts';
import { storeKeys } from '../../domain/names.ts';
import { createImageCache } from '../../rootfs/image/image-cache.ts';
import { createImageCatalog, inspectImage, listImages } from '../../rootfs/image/image-catalog.ts';
import { type ImageStore, storedFileKey } from '../../rootfs/image/image-store.ts';
import { imageDirectory, listLocalImages } from '../../rootfs/image/local-images.ts';
import { hashFile, IMAGE_FILES, type ImageFile, manifestDigest } from '../../rootfs/image/manifest.ts';
import { publishImage } from '../../rootfs/image/publish-image.ts';
import { createObjectStore, type ObjectStore } from '../../store/object-store.ts';
import { type ImageContents, layOutSmallImage } from '../support/guest/small-image.ts';

const MIB = 1 << 20;
const PUBLISHED_AT = '2026-01-02T03:04:05.000Z';

let root: string;
let builds: string;
let store: ObjectStore;
let name: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'kiln-images-'));
  builds = join(root, 'builds');
  name = `n${randomBytes(4).toString('hex')}`;
  const { endpoint, region, bucket, accessKeyId, secretAccessKey } = inject('s3');
  store = createObjectStore({
    endpoint,
    region,
    bucket,
    credentials: { accessKeyId, secretAccessKey },
    forcePathStyle: true,
    timeouts: { connectMs: 2_000, idleMs: 10_000, attempts: 3 },
  });
});

afterEach(async () => {
  store.close();
  await rm(root, { recursive: true, force: true });
});

const layOutImage = (contents: ImageContents = {}): Promise<string> =>
  layOutSmallImage({ root, builds, name }, contents);

const publish = (digest: string, tag = 'latest', into: ImageStore = store) =>
  publishImage({ store: into, imagesDir: builds, digest, tag, publishedAt: PUBLISHED_AT });

/** A store that records which objects pass through it. */
function counting(): { store: ImageStore; puts: string[]; opens: string[] } {
  const puts: string[] = [];
  const opens: string[] = [];
  const counted: ImageStore = {
    readDocument: (key, schema) => store.readDocument(key, schema),
    writeDocument: (key, value, condition) => store.writeDocument(key, value, condition),
    putBlob: (key, source) => {
      puts.push(key);
      return store.putBlob(key, source);
    },
    openBlob: (key, signal) => {
      opens.push(key);
      return store.openBlob(key, signal);
    },
    readBlob: (key, maxBytes) => store.readBlob(key, maxBytes),
    headBlob: (key) => store.headBlob(key),
    listAll: (prefix) => store.listAll(prefix),
  };
  return { store: counted, puts, opens };
}

async function fileOf(digest: string, file: (typeof IMAGE_FILES)[number]): Promise<ImageFile> {
  const { manifest } = await inspectImage(store, `${name}@${digest}`);
  const found = manifest.files.find((entry) => entry.name === file);
  if (found === undefined) throw new Error(`no ${file}`);
  return found;
}

describe('publishing', () => {
  it('makes an image known by tag and by digest', async () => {
    const digest = await layOutImage();
    expect(await publish(digest)).toEqual({ name, tag: 'latest', digest, publishedAt: PUBLISHED_AT });
    const catalog = createImageCatalog(store);
    for (const reference of [name, `${name}:latest`, `${name}@${digest}`]) {
      expect(await catalog.resolve(reference)).toEqual({ name, digest });
    }
    expect((await listImages(store)).filter((image) => image.name === name)).toEqual([
      { name, tag: 'latest', digest, publishedAt: PUBLISHED_AT },
    ]);
    const { manifest } = await inspectImage(store, name);
    expect(manifestDigest(manifest)).toBe(digest);
  });

  it('sends nothing a second time, and of another image only what differs', async () => {
    const rootfs = randomBytes(10_000);
    await publish(await layOutImage({ 'rootfs.ext4': rootfs }));
    const again = counting();
    const digest = await layOutImage({ 'rootfs.ext4': rootfs });
    await publish(digest, 'latest', again.store);
    expect(again.puts).toHaveLength(IMAGE_FILES.length);
    expect(again.puts).not.toContain(storedFileKey(await fileOf(digest, 'rootfs.ext4')));
    const third = counting();
    await publish(digest, 'other', third.store);
    expect(third.puts).toEqual([]);
  });

  it('goes on after an interruption without tag or manifest in the store', async () => {
    const digest = await layOutImage();
    const failing = counting();
    const half: ImageStore = {
      ...failing.store,
      putBlob: (key, source) =>
        failing.puts.length < 2 ? failing.store.putBlob(key, source) : Promise.reject(new Error('died here')),
    };
    await expect(publish(digest, 'latest', half)).rejects.toThrow('died here');
    await expect(createImageCatalog(store).resolve(name)).rejects.toMatchObject({ code: 'IMAGE_MISSING' });
    const rest = counting();
    await publish(digest, 'latest', rest.store);
    expect(rest.puts).toHaveLength(IMAGE_FILES.length - 2 + 1);
  });

  it('lets one of two win who move a tag at once', async () => {
    const digests = [await layOutImage(), await layOutImage()];
    await Promise.all(digests.map((digest) => publish(digest)));
    expect(digests).toContain((await createImageCatalog(store).resolve(name)).digest);
  });

  it('refuses an image that was never built here', async () => {
    const digest = `sha256:${'0'.repeat(64)}`;
    await expect(publish(digest)).rejects.toMatchObject({ code: 'IMAGE_MISSING' });
  });
});

describe('the catalog', () => {
  it('says IMAGE_MISSING for an unknown name, tag and digest', async () => {
    const catalog = createImageCatalog(store);
    for (const reference of [name, `${name}:v1`, `${name}@sha256:${'0'.repeat(64)}`]) {
      await expect(catalog.resolve(reference)).rejects.toMatchObject({ code: 'IMAGE_MISSING' });
    }
  });

  it.each(['', 'UPPER', 'a/../b', 'a:', 'a:..', 'a@sha256:12', 'a@latest', 'a:b@c', '../x', `${'a'.repeat(41)}`])(
    'says SPEC_INVALID for %j',
    async (reference) => {
      await expect(createImageCatalog(store).resolve(reference)).rejects.toMatchObject({ code: 'SPEC_INVALID' });
    },
  );
});

describe('a host', () => {
  const cacheFrom = (from: ImageStore, localBuildsDir?: string) =>
    createImageCache({
      imagesDir: join(root, 'host'),
      store: from,
      ...defined({ localBuildsDir }),
    });

  it('fetches an image once for all who ask, with its holes', async () => {
    const digest = await layOutImage();
    await publish(digest);
    const counted = counting();
    const cache = cacheFrom(counted.store);
    const images = await Promise.all([cache.ensure(digest), cache.ensure(digest), cache.ensure(digest)]);
    expect(counted.opens).toHaveLength(IMAGE_FILES.length);
    expect(new Set(images.map(({ rootfsPath }) => rootfsPath)).size).toBe(1);
    const [image] = images;
    expect(image?.rootfsBytes).toBe(16 * MIB);
    const rootfs = image?.rootfsPath ?? '';
    expect(await hashFile(rootfs)).toEqual(await hashFile(join(imageDirectory(builds, digest), 'rootfs.ext4')));
    expect((await stat(rootfs)).blocks * 512).toBeLessThan(MIB);
    await cache.ensure(digest);
    expect(counted.opens).toHaveLength(IMAGE_FILES.length);
  });

  it('links what was built on the same machine, without the store', async () => {
    const digest = await layOutImage();
    const counted = counting();
    const image = await cacheFrom(counted.store, builds).ensure(digest);
    const built = await stat(join(imageDirectory(builds, digest), 'rootfs.ext4'));
    expect((await stat(image.rootfsPath)).ino).toBe(built.ino);
    expect(counted.opens).toEqual([]);
  });

  it('keeps what two images share once, and believes no copy that was changed', async () => {
    const shared = randomBytes(10_000);
    const digests = [await layOutImage({ vmlinux: shared }), await layOutImage({ vmlinux: shared })];
    for (const digest of digests) await publish(digest);
    const counted = counting();
    const [first = '', second = ''] = digests;
    const kernel = (await cacheFrom(store).ensure(first)).kernelPath;
    const other = (await cacheFrom(counted.store).ensure(second)).kernelPath;
    expect((await stat(other)).ino).toBe((await stat(kernel)).ino);
    expect(counted.opens).toHaveLength(IMAGE_FILES.length - 1);
    await rm(imageDirectory(join(root, 'host'), second), { recursive: true });
    await chmod(kernel, 0o644);
    await writeFile(kernel, 'something else');
    const again = (await cacheFrom(store).ensure(second)).kernelPath;
    expect((await stat(again)).ino).not.toBe((await stat(kernel)).ino);
    expect(await hashFile(again)).toEqual(await hashFile(join(imageDirectory(builds, second), 'vmlinux')));
  });

  it('notices what was changed since it was built here', async () => {
    const digest = await layOutImage();
    const path = join(imageDirectory(builds, digest), 'rootfs.ext4');
    await chmod(path, 0o644);
    const file = await open(path, 'r+');
    await file.write(Buffer.from('x'), 0, 1, 5);
    await file.close();
    await expect(cacheFrom(store, builds).ensure(digest)).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
    expect((await readdir(join(root, 'host'))).filter((entry) => entry.startsWith('sha256'))).toEqual([]);
  });

  it('refuses a stored file that is not what the manifest says, and takes it once it is right', async () => {
    const digest = await layOutImage();
    const other = await layOutImage();
    await publish(digest);
    await publish(other, 'other');
    const key = storedFileKey(await fileOf(digest, 'vmlinux'));
    const right = await store.readBlob(key, MIB);
    await store.putBlob(key, { data: await store.readBlob(storedFileKey(await fileOf(other, 'vmlinux')), MIB) });
    const cache = cacheFrom(store);
    await expect(cache.ensure(digest)).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
    await store.putBlob(key, { data: randomBytes(1000) });
    await expect(cache.ensure(digest)).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
    await store.delete(key);
    await expect(cache.ensure(digest)).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
    expect(await readdir(join(root, 'host'))).toEqual([]);
    await store.putBlob(key, { data: right });
    expect(
      createHash('sha256')
        .update(await readFile((await cache.ensure(digest)).kernelPath))
        .digest('hex'),
    ).toBe((await fileOf(digest, 'vmlinux')).sha256);
  });

  it('takes bad bytes as a refusal, at whatever moment they come', async () => {
    const digest = await layOutImage();
    await publish(digest);
    await store.putBlob(storedFileKey(await fileOf(digest, 'vmlinux')), { data: randomBytes(1000) });
    // Many at once, so that for some of them the bytes arrive before their target file is open.
    const hosts = Array.from({ length: 64 }, (_, index) =>
      createImageCache({ imagesDir: join(root, `host-${index}`), store }),
    );
    const answers = await Promise.allSettled(hosts.map((cache) => cache.ensure(digest)));
    for (const answer of answers) {
      expect(answer).toMatchObject({ status: 'rejected', reason: { code: 'IMAGE_CORRUPT' } });
    }
  });

  it('removes what nobody needs, and nothing that is in use, just asked for, or to be had nowhere else', async () => {
    let nowMs = 0;
    const imagesDir = join(root, 'host');
    const cache = createImageCache({ imagesDir, store, now: () => nowMs });
    const [used, unused, asked, lost] = [
      await layOutImage(),
      await layOutImage(),
      await layOutImage(),
      await layOutImage(),
    ];
    for (const digest of [used, unused, asked, lost]) {
      await publish(digest);
      await cache.ensure(digest);
    }
    await store.delete(storeKeys.imageManifest(lost));
    nowMs = 1000;
    await cache.ensure(asked);
    const limits = { keep: 0, idleMs: 500 };
    expect(await cache.collect(new Set([used]), { ...limits, keep: 4 })).toEqual([]);
    expect(await cache.collect(new Set([used]), limits)).toEqual([unused]);
    expect((await listLocalImages(imagesDir)).sort()).toEqual([used, asked, lost].sort());
    // A removed image is fetched again when it is needed.
    const { rootfsPath } = await cache.ensure(unused);
    expect(await hashFile(rootfsPath)).toEqual(await hashFile(join(imageDirectory(builds, unused), 'rootfs.ext4')));
    // After a restart every image counts as just used.
    expect(await createImageCache({ imagesDir, store }).collect(new Set(), limits)).toEqual([]);
  });

  it('an image that is asked for while it is looked at stays, and while it is removed comes again, whole', async () => {
    const digest = await layOutImage();
    await publish(digest);
    let nowMs = 0;
    let whileLooking: (() => Promise<unknown>) | undefined;
    // Before a collection removes an image, it checks that the store has it.
    const watched: ImageStore = {
      ...counting().store,
      readBlob: async (key, maxBytes) => {
        await whileLooking?.();
        return store.readBlob(key, maxBytes);
      },
    };
    const cache = createImageCache({ imagesDir: join(root, 'host'), store: watched, now: () => nowMs });
    const { rootfsPath } = await cache.ensure(digest);
    const directory = dirname(rootfsPath);
    const limits = { keep: 0, idleMs: 500 };
    nowMs = 1000;
    whileLooking = () => cache.ensure(digest);
    expect(await cache.collect(new Set(), limits)).toEqual([]);
    expect(await readdir(directory)).toEqual(expect.arrayContaining([...IMAGE_FILES]));
    whileLooking = undefined;
    nowMs = 2000;
    const collected = cache.collect(new Set(), limits);
    const isThere = () =>
      stat(directory).then(
        () => true,
        () => false,
      );
    while (await isThere());
    await cache.ensure(digest);
    expect(await collected).toEqual([digest]);
    expect(await readdir(directory)).toEqual(expect.arrayContaining([...IMAGE_FILES]));
    await writeFile(join(root, 'host', '.removed-sha256-half'), 'of a process that died');
    await cache.collect(new Set(), { keep: 9, idleMs: 0 });
    expect((await readdir(join(root, 'host'))).filter((entry) => entry.startsWith('.removed'))).toEqual([]);
  });

  const flip = async (path: string) => {
    await chmod(path, 0o644);
    const { mtime, atime } = await stat(path);
    const file = await open(path, 'r+');
    await file.write(Buffer.from('x'), 0, 1, 5);
    await file.close();
    await utimes(path, atime, mtime);
  };
  const exchange = async (path: string) => {
    await rm(path);
    await writeFile(path, 'short');
  };

  it.each([
    ['exchanged', exchange],
    ['flipped in one byte, its time put back', flip],
    ['removed', rm],
  ] as const)('a file that was %s afterwards is fetched anew, and refused where nobody has it', async (_, damage) => {
    const digest = await layOutImage();
    await publish(digest);
    const cache = cacheFrom(store);
    const { rootfsPath } = await cache.ensure(digest);
    const right = await hashFile(rootfsPath);
    await damage(rootfsPath);
    expect((await cache.ensure(digest)).rootfsPath).toBe(rootfsPath);
    expect(await hashFile(rootfsPath)).toEqual(right);
    await store.delete(storedFileKey(await fileOf(digest, 'rootfs.ext4')));
    await damage(rootfsPath);
    await expect(cache.ensure(digest)).rejects.toMatchObject({ code: 'IMAGE_CORRUPT' });
    await expect(cacheFrom(store, builds).ensure(digest)).resolves.toMatchObject({ digest });
    expect(await hashFile(rootfsPath)).toEqual(right);
  });

  it('is not read again because another host of the machine has its files, too, or has them no more', async () => {
    const digest = await layOutImage();
    const cache = cacheFrom(store, builds);
    await cache.ensure(digest);
    const readBytes = async () => Number(/^rchar: (\d+)$/m.exec(await readFile('/proc/self/io', 'utf8'))?.[1]);
    const before = await readBytes();
    const other = createImageCache({ imagesDir: join(root, 'other-host'), localBuildsDir: builds, store });
    await other.ensure(digest);
    await cache.ensure(digest);
    await rm(join(root, 'other-host'), { recursive: true });
    await cache.ensure(digest);
    expect((await readBytes()) - before).toBeLessThan(MIB);
  });

  it('says IMAGE_MISSING for an image that nobody published', async () => {
    await expect(cacheFrom(store).ensure(`sha256:${'1'.repeat(64)}`)).rejects.toMatchObject({ code: 'IMAGE_MISSING' });
  });

  it('lets one caller give up without taking it from another', async () => {
    const digest = await layOutImage();
    await publish(digest);
    const cache = cacheFrom(store);
    const controller = new AbortController();
    const impatient = cache.ensure(digest, controller.signal);
    const patient = cache.ensure(digest);
    controller.abort(new Error('enough'));
    await expect(impatient).rejects.toThrow('enough');
    expect((await patient).digest).toBe(digest);
  });
});
