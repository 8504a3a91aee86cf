/**
 * The object store: JSON documents with conditional writes and blobs with checksums, over any S3 that honours
 * `If-None-Match: *` and `If-Match` on PUT. Every method deliberately throws only `KilnError`:
 * STORE_UNAVAILABLE where the store did not answer, STORE_CONFLICT where a condition did not hold.
 */

import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { S3 } from '@aws-sdk/client-s3';
import type { z } from 'zod';
import { defined } from '../domain/defined.ts';
import { KilnError } from '../domain/failures.ts';
import {
  changedByAnother,
  isBehindEnd,
  isMissing,
  isPreconditionFailed,
  isUnanswered,
  nothingStands,
  storeFailure,
} from './s3-errors.ts';
import { bytesOf, digestOf, readable, verifiedStream } from './verified-stream.ts';

export interface ObjectStoreOptions {
  /** URL of the S3 endpoint, e.g. `http://127.0.0.1:7070`. */
  readonly endpoint: string;
  readonly region: string;
  readonly bucket: string;
  /** Absent: where the AWS SDK finds them by itself (environment, profile, role of the machine). */
  readonly credentials?: StoreCredentials;
  /** Bucket in the path instead of the host name; true for everything but AWS itself. */
  readonly forcePathStyle: boolean;
  readonly timeouts: {
    /** Until a TCP connection is established. */
    readonly connectMs: number;
    /** Without a byte in either direction. */
    readonly idleMs: number;
    /** Tries of one request, the first included. */
    readonly attempts: number;
  };
}

export interface StoreCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface StoredDocument<T> {
  readonly value: T;
  readonly etag: string;
}

/** `create`: only where the key is free. `etag`: only where the object is still that one. Absent: always. */
export type WriteCondition = 'create' | { readonly etag: string };

export interface WrittenDocument {
  readonly etag: string;
  /**
   * False where the condition failed but the same bytes are already there: our own write whose reply was lost,
   * or an equal write by another. A caller that must know which one puts a name of its own into the document.
   */
  readonly written: boolean;
}

/** Where the bytes of a blob come from. A file must not change while it is put. */
export type BlobSource = { readonly path: string } | { readonly data: Buffer };

export interface BlobInfo {
  readonly bytes: number;
  /** Hex; absent where the object was not written as a blob. */
  readonly sha256?: string;
}

export interface BlobPart {
  readonly offset: number;
  /** Bytes; at least 1. */
  readonly length: number;
}

export interface OpenedBlob extends BlobInfo {
  /** Fails with IMAGE_CORRUPT at its end where length or sha256 differ from what was put. */
  readonly stream: Readable;
}

export interface ListedObject {
  readonly key: string;
  readonly bytes: number;
  readonly etag: string;
  /** When it was last written, by the clock of the store, ms since 1970. */
  readonly modifiedMs: number;
}

export interface ObjectPage {
  readonly objects: readonly ListedObject[];
  /** Names below the prefix up to the delimiter, where one was asked for; each ends with it. */
  readonly folders: readonly string[];
  /** Present where more follow. */
  readonly next?: string;
}

export interface ListOptions {
  readonly after?: string;
  readonly limit?: number;
  readonly delimiter?: string;
}

export interface ObjectStore {
  readonly bucket: string;
  /** @returns undefined where there is no such key. @throws STORE_CONFLICT where the document breaks the schema. */
  readDocument<T>(key: string, schema: z.ZodType<T>): Promise<StoredDocument<T> | undefined>;
  /** Writes JSON. @throws STORE_CONFLICT where the condition does not hold and other bytes are there. */
  writeDocument(key: string, value: unknown, condition?: WriteCondition): Promise<WrittenDocument>;
  /** Puts all bytes; the server checks their sha256, which is stored beside them. `expectedSha256` is hex. */
  putBlob(key: string, source: BlobSource, options?: { expectedSha256?: string }): Promise<Required<BlobInfo>>;
  /** @throws NOT_FOUND where there is no such key. */
  openBlob(key: string, signal?: AbortSignal): Promise<OpenedBlob>;
  /** A whole small blob. @throws NOT_FOUND, IMAGE_CORRUPT, PAYLOAD_TOO_LARGE beyond `maxBytes`. */
  readBlob(key: string, maxBytes: number, signal?: AbortSignal): Promise<Buffer>;
  /**
   * Bytes of the middle of a blob. Nothing checks them: the caller has to.
   * @returns fewer where the blob ends before. @throws NOT_FOUND where there is no such key.
   */
  readPart(key: string, part: BlobPart, signal?: AbortSignal): Promise<Buffer>;
  /** @returns undefined where there is no such key. */
  headBlob(key: string): Promise<BlobInfo | undefined>;
  /** One page of keys with the prefix, in byte order; `after` is a key. */
  list(prefix: string, options?: ListOptions): Promise<ObjectPage>;
  /** Every key with the prefix, page by page; `after` and `limit` (of one page) as in `list`. */
  listAll(prefix: string, options?: Omit<ListOptions, 'delimiter'>): AsyncIterable<ListedObject>;
  /** A missing key is no error. */
  delete(key: string): Promise<void>;
  /** Finds or makes the bucket. */
  ensureBucket(): Promise<void>;
  close(): void;
}

/** Longest JSON document that is read or written. */
export const MAX_DOCUMENT_BYTES = 8 * 1024 * 1024;
const LIST_PAGE = 1000;

/** @returns a store over S3. No request is made until a method is called. */
export function createObjectStore(options: ObjectStoreOptions): ObjectStore {
  return new S3ObjectStore(options);
}

class S3ObjectStore implements ObjectStore {
  readonly bucket: string;
  private readonly s3: S3;
  private readonly attempts: number;
  private readonly endpoint: string;

  constructor(options: ObjectStoreOptions) {
    this.bucket = options.bucket;
    this.endpoint = options.endpoint;
    this.attempts = options.timeouts.attempts;
    this.s3 = new S3({
      endpoint: options.endpoint,
      region: options.region,
      ...defined({ credentials: options.credentials }),
      forcePathStyle: options.forcePathStyle,
      maxAttempts: options.timeouts.attempts,
      // Our own sha256 is sent and checked; the SDK's default CRC would turn every put into a chunked upload.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      requestHandler: {
        connectionTimeout: options.timeouts.connectMs,
        socketTimeout: options.timeouts.idleMs,
        // The connect timeout counts from the call: a request that waits in line for a socket would time out.
        httpAgent: { maxSockets: Number.POSITIVE_INFINITY },
        httpsAgent: { maxSockets: Number.POSITIVE_INFINITY },
        // The SDK's line about a full connection pool would land on standard error of the command line.
        logger: SILENT,
      },
      logger: SILENT,
    });
  }

  async readDocument<T>(key: string, schema: z.ZodType<T>): Promise<StoredDocument<T> | undefined> {
    const found = await this.readBytes(key, MAX_DOCUMENT_BYTES);
    if (found === undefined) return undefined;
    const parsed = schema.safeParse(parseJson(key, found.data));
    if (!parsed.success) {
      throw new KilnError(
        'STORE_CONFLICT',
        `The stored document ${key} is not of the expected form; it was written by another version of Kiln, or by hand.`,
        {
          key,
          issues: parsed.error.issues.slice(0, 5).map((issue) => `${issue.path.join('.')}: ${issue.message}`),
        },
      );
    }
    return { value: parsed.data, etag: found.etag };
  }

  async writeDocument(key: string, value: unknown, condition?: WriteCondition): Promise<WrittenDocument> {
    const body = Buffer.from(JSON.stringify(value));
    if (body.length > MAX_DOCUMENT_BYTES) {
      throw new KilnError(
        'PAYLOAD_TOO_LARGE',
        `The document ${key} has ${body.length} bytes; at most ${MAX_DOCUMENT_BYTES} are stored.`,
      );
    }
    for (let attempt = 1; ; attempt++) {
      try {
        const reply = await this.s3.putObject({
          Bucket: this.bucket,
          Key: key,
          Body: body,
          ContentType: 'application/json',
          ...conditionHeaders(condition),
        });
        return { etag: reply.ETag ?? '', written: true };
      } catch (error) {
        // A retry inside the SDK can meet our own first write, whose reply was lost: the bytes in the store decide.
        if (condition === undefined || !(isPreconditionFailed(error) || isMissing(error) || isUnanswered(error)))
          throw this.failure(error, key);
        const found = await this.readBytes(key, MAX_DOCUMENT_BYTES);
        if (found?.data.equals(body)) return { etag: found.etag, written: false };
        if (isUnanswered(error)) throw this.failure(error, key);
        if (condition !== 'create' || found !== undefined) throw changedByAnother(key);
        // Refused because of another write that then failed: nobody has written it, and giving up would lose it.
        if (attempt >= this.attempts) throw nothingStands(key, error);
      }
    }
  }

  async putBlob(
    key: string,
    source: BlobSource,
    options: { expectedSha256?: string } = {},
  ): Promise<Required<BlobInfo>> {
    const { sha256, bytes } = await digestOf(source);
    if (options.expectedSha256 !== undefined && options.expectedSha256 !== sha256) {
      throw new KilnError(
        'IMAGE_CORRUPT',
        `The bytes for ${key} have sha256 ${sha256}, not ${options.expectedSha256} as expected; make them again.`,
        { key },
      );
    }
    for (let attempt = 1; ; attempt++) {
      const body = 'data' in source ? source.data : createReadStream(source.path);
      try {
        await this.s3.putObject({
          Bucket: this.bucket,
          Key: key,
          Body: body,
          ContentLength: bytes,
          ContentType: 'application/octet-stream',
          ChecksumSHA256: Buffer.from(sha256, 'hex').toString('base64'),
          Metadata: { sha256 },
        });
        return { sha256, bytes };
      } catch (error) {
        // The SDK does not retry a request whose body is a stream; a file can simply be read again.
        if (!isUnanswered(error) || attempt >= this.attempts) throw this.failure(error, key);
      } finally {
        if (!Buffer.isBuffer(body)) body.destroy();
      }
    }
  }

  async openBlob(key: string, signal?: AbortSignal): Promise<OpenedBlob> {
    try {
      const reply = await this.s3.getObject({ Bucket: this.bucket, Key: key }, defined({ abortSignal: signal }));
      const info = blobInfo(reply);
      return { ...info, stream: verifiedStream(key, readable(reply.Body), info) };
    } catch (error) {
      throw this.failure(error, key);
    }
  }

  async readBlob(key: string, maxBytes: number, signal?: AbortSignal): Promise<Buffer> {
    const blob = await this.openBlob(key, signal);
    return bytesOf(key, blob.stream, maxBytes).catch((error: unknown) => {
      throw this.failure(error, key);
    });
  }

  async readPart(key: string, { offset, length }: BlobPart, signal?: AbortSignal): Promise<Buffer> {
    const range = { Bucket: this.bucket, Key: key, Range: `bytes=${offset}-${offset + length - 1}` };
    try {
      const reply = await this.s3.getObject(range, defined({ abortSignal: signal }));
      return await bytesOf(key, readable(reply.Body), length);
    } catch (error) {
      if (isBehindEnd(error)) return Buffer.alloc(0);
      throw this.failure(error, key);
    }
  }

  async headBlob(key: string): Promise<BlobInfo | undefined> {
    try {
      return blobInfo(await this.s3.headObject({ Bucket: this.bucket, Key: key }));
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw this.failure(error, key);
    }
  }

  async list(prefix: string, options: ListOptions = {}): Promise<ObjectPage> {
    try {
      const reply = await this.s3.listObjectsV2({
        Bucket: this.bucket,
        Prefix: prefix,
        MaxKeys: options.limit ?? LIST_PAGE,
        ...defined({ StartAfter: options.after, Delimiter: options.delimiter }),
      });
      const objects = (reply.Contents ?? []).flatMap(({ Key, Size, ETag, LastModified }) =>
        Key === undefined
          ? []
          : [{ key: Key, bytes: Size ?? 0, etag: ETag ?? '', modifiedMs: LastModified?.getTime() ?? 0 }],
      );
      const folders = (reply.CommonPrefixes ?? []).flatMap(({ Prefix }) => (Prefix === undefined ? [] : [Prefix]));
      const last = [objects.at(-1)?.key, folders.at(-1)]
        .filter((key) => key !== undefined)
        .sort()
        .at(-1);
      return { objects, folders, ...(reply.IsTruncated === true && last !== undefined ? { next: last } : {}) };
    } catch (error) {
      throw this.failure(error, prefix);
    }
  }

  async *listAll(prefix: string, options: Omit<ListOptions, 'delimiter'> = {}): AsyncIterable<ListedObject> {
    let { after } = options;
    do {
      const page: ObjectPage = await this.list(prefix, { ...options, ...defined({ after }) });
      yield* page.objects;
      after = page.next;
    } while (after !== undefined);
  }

  async delete(key: string): Promise<void> {
    try {
      await this.s3.deleteObject({ Bucket: this.bucket, Key: key });
    } catch (error) {
      if (!isMissing(error)) throw this.failure(error, key);
    }
  }

  async ensureBucket(): Promise<void> {
    try {
      await this.s3.headBucket({ Bucket: this.bucket });
      return;
    } catch (error) {
      if (!isMissing(error)) throw this.failure(error, this.bucket);
    }
    try {
      await this.s3.createBucket({ Bucket: this.bucket });
    } catch (error) {
      const name = error instanceof Error ? error.name : '';
      if (name !== 'BucketAlreadyOwnedByYou' && name !== 'BucketAlreadyExists') throw this.failure(error, this.bucket);
    }
  }

  close(): void {
    this.s3.destroy();
  }

  private async readBytes(key: string, maxBytes: number): Promise<{ data: Buffer; etag: string } | undefined> {
    try {
      const reply = await this.s3.getObject({ Bucket: this.bucket, Key: key });
      return { data: await bytesOf(key, readable(reply.Body), maxBytes), etag: reply.ETag ?? '' };
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw this.failure(error, key);
    }
  }

  private failure(error: unknown, key: string): KilnError {
    return storeFailure(error, { key, endpoint: this.endpoint, bucket: this.bucket });
  }
}

const SILENT = { trace: () => {}, debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

function conditionHeaders(condition: WriteCondition | undefined): { IfNoneMatch?: string; IfMatch?: string } {
  if (condition === undefined) return {};
  return condition === 'create' ? { IfNoneMatch: '*' } : { IfMatch: condition.etag };
}

function blobInfo(reply: {
  ContentLength?: number | undefined;
  Metadata?: Record<string, string> | undefined;
}): BlobInfo {
  const sha256 = reply.Metadata?.['sha256'];
  return { bytes: reply.ContentLength ?? 0, ...defined({ sha256 }) };
}

function parseJson(key: string, data: Buffer): unknown {
  try {
    return JSON.parse(data.toString('utf8'));
  } catch {
    throw new KilnError('STORE_CONFLICT', `The stored document ${key} is no JSON.`, { key });
  }
}
