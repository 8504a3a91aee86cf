import { isKilnError } from '../domain/failures.ts';
import type { ObjectStore } from './object-store.ts';

/** @returns false where another document exists already; it is left unchanged. @throws STORE_UNAVAILABLE */
export async function writeOnce(
  store: Pick<ObjectStore, 'writeDocument'>,
  key: string,
  value: unknown,
): Promise<boolean> {
  try {
    await store.writeDocument(key, value, 'create');
    return true;
  } catch (error) {
    if (isKilnError(error, 'STORE_CONFLICT')) return false;
    throw error;
  }
}
