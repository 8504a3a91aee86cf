/** Proves that the store honours conditional writes also when many arrive at once: everything depends on that. */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { isKilnError, KilnError } from '../domain/failures.ts';
import type { ObjectStore } from './object-store.ts';

const probeSchema = z.object({ contender: z.int() });

/**
 * Lets `contenders` write one new key at once with If-None-Match, then one existing key with If-Match.
 * @throws UNSUPPORTED where not exactly one wins, or where what is read is not the winner's
 */
export async function probeConditionalWrites(store: ObjectStore, options: { contenders: number }): Promise<void> {
  const key = `probe/${randomUUID()}.json`;
  try {
    await contend(store, key, options.contenders, 'create', 'If-None-Match');
    const standing = await store.readDocument(key, probeSchema);
    if (standing === undefined) throw unsupported('an object that was just written cannot be read');
    await contend(store, key, options.contenders, { etag: standing.etag }, 'If-Match');
  } finally {
    await store.delete(key);
  }
}

async function contend(
  store: ObjectStore,
  key: string,
  contenders: number,
  condition: 'create' | { etag: string },
  header: string,
): Promise<void> {
  const base = condition === 'create' ? 0 : contenders;
  const writes = Array.from({ length: contenders }, async (_, index) => {
    const contender = base + index;
    try {
      await store.writeDocument(key, { contender }, condition);
      return contender;
    } catch (error) {
      if (isKilnError(error, 'STORE_CONFLICT')) return undefined;
      throw error;
    }
  });
  const winners = (await Promise.all(writes)).filter((winner) => winner !== undefined);
  if (winners.length !== 1) {
    throw unsupported(`of ${contenders} writes of one key with ${header}, ${winners.length} succeeded instead of one`);
  }
  const standing = await store.readDocument(key, probeSchema);
  if (standing?.value.contender !== winners[0]) throw unsupported(`a write that was refused by ${header} took effect`);
}

function unsupported(what: string): KilnError {
  return new KilnError(
    'UNSUPPORTED',
    `The object store cannot be used: ${what}. Kiln needs an S3 that honours conditional writes (versitygw 1.8.0 or later, AWS S3).`,
  );
}
