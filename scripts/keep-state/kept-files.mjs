/** Turns the state that a stack left into small files for the repository. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { S3 } from '@aws-sdk/client-s3';

/** Larger files are disks, images or programs: only their size is stored. */
const MAX_BYTES = 48 * 1024;
const POLL_MS = 200;

/**
 * Copies a folder. Names of this machine in its texts become placeholders (`{{HOME}}`).
 * @returns `{path, bytes}` of each file that is not copied: empty or too large
 */
export function keepFolder(from, to, placeholders) {
  const leftOut = [];
  for (const entry of readdirSync(from, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const name = relative(from, path);
    const { size } = statSync(path);
    if (size === 0 || size > MAX_BYTES) {
      leftOut.push({ path: name, bytes: size });
      continue;
    }
    const bytes = readFileSync(path);
    const text = textOf(bytes);
    write(join(to, name), text === undefined ? bytes : withPlaceholders(text, placeholders));
  }
  return leftOut;
}

/**
 * Copies the objects of a bucket as they are: many are bound by checksums.
 * @returns for each: key, metadata, and its size where its bytes are not stored
 */
export async function keepObjects(bucket, credentials, to) {
  const store = openBucket(bucket, credentials);
  const kept = [];
  for await (const { key, bytes } of store.list()) {
    const metadata = await store.metadata(key);
    if (bytes > MAX_BYTES) {
      kept.push({ key, metadata, leftOutBytes: bytes });
      continue;
    }
    write(join(to, key), await store.read(key));
    kept.push({ key, metadata });
  }
  store.close();
  return kept;
}

/** Waits until an object with a word in its name holds a text. */
export async function untilStored(bucket, credentials, word, text) {
  const store = openBucket(bucket, credentials);
  for (let isThere = false; !isThere; ) {
    await delay(POLL_MS);
    for await (const { key } of store.list()) {
      if (key.includes(word)) isThere ||= Buffer.from(await store.read(key)).includes(text);
    }
  }
  store.close();
}

function openBucket({ endpoint, bucket: Bucket }, credentials) {
  const s3 = new S3({ endpoint, region: 'us-east-1', credentials, forcePathStyle: true });
  return {
    async *list() {
      let token;
      do {
        const page = await s3.listObjectsV2({ Bucket, ...(token ? { ContinuationToken: token } : {}) });
        for (const { Key: key, Size: bytes } of page.Contents ?? []) yield { key, bytes };
        token = page.NextContinuationToken;
      } while (token);
    },
    metadata: async (Key) => (await s3.headObject({ Bucket, Key })).Metadata ?? {},
    read: async (Key) => (await s3.getObject({ Bucket, Key })).Body.transformToByteArray(),
    close: () => s3.destroy(),
  };
}

export function withPlaceholders(text, placeholders) {
  return Object.entries(placeholders).reduce((said, [name, value]) => said.replaceAll(value, `{{${name}}}`), text);
}

export function write(path, content) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
}

/** @returns undefined where the bytes are no text */
function textOf(bytes) {
  if (bytes.includes(0)) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
