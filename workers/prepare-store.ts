import { join } from 'node:path';
import { readEnvironment } from '../config/environment.ts';
import type { SetupRecord } from '../config/setup-record.ts';
import { DEFAULT_TAG } from '../rootfs/image/image-catalog.ts';
import { listLocalTags, readManifest } from '../rootfs/image/local-images.ts';
import { publishImage } from '../rootfs/image/publish-image.ts';
import { probeConditionalWrites } from '../store/conditional-write-probe.ts';
import { storeFromEnvironment } from './store-from-environment.ts';

const CONTENDERS = 8;

/**
 * Prepares an object store for Kiln: bucket, proof that conditional writes hold under a race, and this
 * machine's guest images. Safe to run again.
 * @throws UNSUPPORTED where the store does not honour conditional writes, STORE_UNAVAILABLE
 */
export async function prepareStore(
  environment: Readonly<Record<string, string | undefined>>,
  setup: SetupRecord,
  onProgress: (text: string) => void,
): Promise<void> {
  const store = storeFromEnvironment(readEnvironment(environment));
  try {
    await store.ensureBucket();
    await probeConditionalWrites(store, { contenders: CONTENDERS });
    const imagesDir = join(setup.cacheDir, 'images');
    for (const { name, digest } of [setup.image, ...(await otherImages(imagesDir, setup, onProgress))]) {
      await publishImage({
        store,
        imagesDir,
        digest,
        tag: DEFAULT_TAG,
        publishedAt: new Date().toISOString(),
        onStep: (file) => onProgress(`publishing image ${name}: ${file}`),
      });
      onProgress(`image ${name} is ${digest.slice(0, 19)}…`);
    }
  } finally {
    store.close();
  }
}

/** Images built on this machine besides that of set-up. Images with another agent would not understand this Kiln. */
async function otherImages(
  imagesDir: string,
  setup: SetupRecord,
  onProgress: (text: string) => void,
): Promise<{ name: string; digest: string }[]> {
  const found: { name: string; digest: string }[] = [];
  for (const { name, digest } of await listLocalTags(imagesDir, DEFAULT_TAG)) {
    if (name === setup.image.name) continue;
    const manifest = await readManifest(imagesDir, digest);
    if (manifest?.agentKey === setup.agent.key) found.push({ name, digest });
    else onProgress(`image ${name} is of an earlier Kiln: bring it up to date with \`kiln image build ${name}\``);
  }
  return found;
}
