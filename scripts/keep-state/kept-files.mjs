/** Turns the state that a stack left into small files for the repository. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { S3 } from '@aws-sdk/client-s3';

/** Larger files are disks, images or programs: only their size is stored. */
const MAX_BYTES = 48 * 1024;

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
export async function keepObjects({ endpoint, bucket }, credentials, to) {
  const s3 = new S3({ endpoint, region: 'us-east-1', credentials, forcePathStyle: true });
  const kept = [];
  let token;
  do {
    const page = await s3.listObjectsV2({ Bucket: bucket, ...(token ? { ContinuationToken: token } : {}) });
    for (const { Key: key, Size: bytes } of page.Contents ?? []) {
      const { Metadata: metadata = {} } = await s3.headObject({ Bucket: bucket, Key: key });
      if (bytes > MAX_BYTES) {
        kept.push({ key, metadata, leftOutBytes: bytes });
        continue;
      }
      const { Body } = await s3.getObject({ Bucket: bucket, Key: key });
      write(join(to, key), await Body.transformToByteArray());
      kept.push({ key, metadata });
    }
    token = page.NextContinuationToken;
  } while (token);
  s3.destroy();
  return kept;
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
