/**
 * Messages, commands, environments and answers as they travel through Temporal: sealed with AES-256-GCM, so that
 * histories, the Web UI and archives hold nothing that can be read once the key is deleted.
 */
import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { sessionKeySchema } from '../../contracts/store/session-documents.ts';
import { KilnError } from '../../domain/failures.ts';
import { type SessionName, sessionWorkflowId, storeKeys } from '../../domain/names.ts';
import type { ObjectStore } from '../object-store.ts';
import { writeOnce } from '../write-once.ts';

/** Largest body that is sealed, bytes. */
export const MAX_SEALED_BODY = 1024 * 1024;

/** What a sealed text belongs to. It can be opened for nothing else. */
export interface SealedFor {
  readonly session: SessionName;
  readonly runId: string;
  readonly part: 'request' | 'answer';
}

export interface SealedBodies {
  /** @returns base64. @throws PAYLOAD_TOO_LARGE beyond `MAX_SEALED_BODY`, STORE_UNAVAILABLE */
  seal(body: Uint8Array, to: SealedFor): Promise<string>;
  /** @throws SESSION_CORRUPT where it was sealed for something else or is damaged, NOT_FOUND where the key was deleted */
  open(sealed: string, from: SealedFor): Promise<Buffer>;
}

const CIPHER = 'aes-256-gcm';
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const MAX_KEYS = 10_000;

/** @returns bodies sealed by the keys in a store. A key is read, or made by the first who seals, once for each session. */
export function createSealedBodies(store: Pick<ObjectStore, 'readDocument' | 'writeDocument'>): SealedBodies {
  const keys = new LRUCache<string, Promise<Buffer>>({ max: MAX_KEYS });

  const keyOf = (session: SessionName, find: (path: string) => Promise<Buffer>): Promise<Buffer> => {
    const path = storeKeys.sessionKey(session);
    const known = keys.get(path);
    if (known !== undefined) return known;
    const finding = find(path);
    keys.set(path, finding);
    finding.catch(() => keys.delete(path));
    return finding;
  };
  const read = async (path: string): Promise<Buffer | undefined> => {
    const found = await store.readDocument(path, sessionKeySchema);
    return found && Buffer.from(found.value.key, 'base64');
  };
  const findOrMake = async (path: string): Promise<Buffer> => {
    const key = randomBytes(KEY_BYTES);
    const found = await read(path);
    if (found !== undefined) return found;
    if (await writeOnce(store, path, { schemaVersion: 1, key: key.toString('base64') })) return key;
    return mustFind(path);
  };
  const mustFind = async (path: string): Promise<Buffer> => {
    const found = await read(path);
    if (found !== undefined) return found;
    throw new KilnError('NOT_FOUND', 'The key of this session was deleted, and with it what it had sealed.');
  };

  return {
    async seal(body, to) {
      if (body.length > MAX_SEALED_BODY) {
        throw new KilnError('PAYLOAD_TOO_LARGE', `A sealed body may have ${MAX_SEALED_BODY} bytes.`);
      }
      const key = await keyOf(to.session, findOrMake);
      const nonce = nonceFor(key, body, to);
      const cipher = createCipheriv(CIPHER, key, nonce).setAAD(nameOf(to));
      return Buffer.concat([nonce, cipher.update(body), cipher.final(), cipher.getAuthTag()]).toString('base64');
    },
    async open(sealed, from) {
      const key = await keyOf(from.session, mustFind);
      const bytes = Buffer.from(sealed, 'base64');
      if (bytes.length < NONCE_BYTES + TAG_BYTES) throw corrupt(from);
      const decipher = createDecipheriv(CIPHER, key, bytes.subarray(0, NONCE_BYTES)).setAAD(nameOf(from));
      decipher.setAuthTag(bytes.subarray(-TAG_BYTES));
      const body = decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES));
      try {
        return Buffer.concat([body, decipher.final()]);
      } catch (error) {
        throw corrupt(from, error);
      }
    },
  };
}

/**
 * The same body of the same run is sealed to the same text, however often it is sent: it is one object in the store.
 * Different bodies never share a nonce, since it depends on all of both. That two texts are the same is no secret: the
 * hash of a run's body says so, too.
 */
function nonceFor(key: Buffer, body: Uint8Array, to: SealedFor): Buffer {
  const nonceKey = createHmac('sha256', key).update('nonce').digest();
  // Its name is JSON, without a zero byte.
  const mac = createHmac('sha256', nonceKey).update(nameOf(to)).update('\0').update(body);
  return mac.digest().subarray(0, NONCE_BYTES);
}

/** Authenticated with the body: what was sealed for one run cannot be passed off as another's. */
function nameOf({ session, runId, part }: SealedFor): Buffer {
  return Buffer.from(JSON.stringify([sessionWorkflowId(session), runId, part]));
}

function corrupt({ session, runId, part }: SealedFor, cause?: unknown): KilnError {
  const message = `The ${part} of run ${runId} in ${sessionWorkflowId(session)} was not sealed for it, or is damaged.`;
  return new KilnError('SESSION_CORRUPT', message, {}, cause);
}
