import { join } from 'node:path';
import { readEnvironment } from '../config/environment.ts';
import type { SetupRecord } from '../config/setup-record.ts';
import { DEFAULT_TAG } from '../rootfs/image/image-catalog.ts';
import { publishImage } from '../rootfs/image/publish-image.ts';
import { probeConditionalWrites } from '../store/conditional-write-probe.ts';
import { storeFromEnvironment } from './store-from-environment.ts';

const CONTENDERS = 8;

/**
 * Brings an object store to where Kiln runs: bucket, proof that conditional writes hold under a race, and this
 * machine's guest image. Safe to run again.
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
    const { digest, name } = setup.image;
    await publishImage({
      store,
      imagesDir: join(setup.cacheDir, 'images'),
      digest,
      tag: DEFAULT_TAG,
      publishedAt: new Date().toISOString(),
      onStep: (file) => onProgress(`publishing image ${name}: ${file}`),
    });
    onProgress(`image ${name} is ${digest.slice(0, 19)}…`);
  } finally {
    store.close();
  }
}
