/** What callers ask runs to do: sealed, and carried by the order itself where it is small enough. */
import { createHash } from 'node:crypto';
import { runRequestSchema } from '../../contracts/store/session-documents.ts';
import { KilnError } from '../../domain/failures.ts';
import { type SessionName, storeKeys } from '../../domain/names.ts';
import type { RunRequestSeal, SealedRequests } from '../../ports/runs.ts';
import type { ObjectStore } from '../object-store.ts';
import { createSealedBodies, MAX_SEALED_BODY } from './sealed-bodies.ts';

/** Largest request that travels through Temporal, bytes; larger ones go to the store first. */
export const MAX_CARRIED_REQUEST = 32 * 1024;

export type RunRequests = SealedRequests & RunRequestSeal;

/** @returns the requests of runs, with bodies and keys in a store */
export function createRunRequests(
  store: Pick<ObjectStore, 'readDocument' | 'writeDocument' | 'putBlob' | 'readBlob'>,
): RunRequests {
  const bodies = createSealedBodies(store);
  return {
    async seal(session, runId, { argv, env }) {
      const plain = Buffer.from(JSON.stringify({ schemaVersion: 1, argv, env }));
      const sealed = await bodies.seal(plain, { session, runId, part: 'request' });
      if (plain.length <= MAX_CARRIED_REQUEST) return { body: { sealed }, bytes: plain.length };
      const data = Buffer.from(sealed);
      const sha256 = createHash('sha256').update(data).digest('hex');
      await store.putBlob(storeKeys.runRequest(session, sha256), { data }, { expectedSha256: sha256 });
      // Its bytes do not wait in the workflow.
      return { body: { sha256 }, bytes: sha256.length };
    },
    async open(session, runId, body) {
      const sealed = 'sealed' in body ? body.sealed : await stored(store, session, body.sha256);
      const plain = await bodies.open(sealed, { session, runId, part: 'request' });
      const request = runRequestSchema.safeParse(parsed(plain));
      if (request.success) return { argv: request.data.argv, env: request.data.env };
      throw new KilnError('SESSION_CORRUPT', `What run ${runId} is asked to do cannot be read.`);
    },
  };
}

async function stored(store: Pick<ObjectStore, 'readBlob'>, session: SessionName, sha256: string): Promise<string> {
  // Base64, and what the seal adds.
  const blob = await store.readBlob(storeKeys.runRequest(session, sha256), MAX_SEALED_BODY * 2);
  return blob.toString('latin1');
}

function parsed(plain: Buffer): unknown {
  try {
    return JSON.parse(plain.toString('utf8'));
  } catch {
    return undefined;
  }
}
