/** A process that ends between any two steps of its work, as `kill -9` ends it: nothing is cleaned up. */
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import type { MemoryStore } from './memory-store.ts';

export class Killed extends Error {
  override readonly name = 'Killed';
}

const CHANGES = ['mkdir', 'rename', 'rm', 'link', 'open', 'writeFile'] as const;
const WRITES = ['write', 'writeFile', 'sync'] as const;

/**
 * Runs work of which only so many steps that touch a file or the store take effect.
 * @returns what it came to; undefined where it was killed
 */
export async function killedAfter<T>(
  steps: number,
  store: MemoryStore,
  work: () => Promise<T>,
): Promise<T | undefined> {
  let left = steps;
  const step = () => {
    if (left <= 0) throw new Killed('killed');
    left -= 1;
  };
  const putBack = countSteps(step);
  store.onCall = step;
  try {
    return await work();
  } catch (error) {
    // An error on the way out, say of a clean-up, may have taken its place.
    if (left > 0) throw error;
    return undefined;
  } finally {
    store.onCall = () => undefined;
    putBack();
  }
}

/** Has `step` asked before each change. @returns what undoes this */
function countSteps(step: () => void): () => void {
  const before = Object.fromEntries(CHANGES.map((name) => [name, fs[name]]));
  for (const name of CHANGES) {
    const real: (...args: never[]) => Promise<unknown> = fs[name];
    const counted = async (...args: never[]) => {
      step();
      const result = await Reflect.apply(real, fs, args);
      if (name === 'open') countWrites(result, step);
      return result;
    };
    Object.assign(fs, { [name]: counted });
  }
  syncBuiltinESMExports();
  return () => {
    Object.assign(fs, before);
    syncBuiltinESMExports();
  };
}

function countWrites(file: unknown, step: () => void): void {
  if (typeof file !== 'object' || file === null) return;
  for (const name of WRITES) {
    const real: unknown = Reflect.get(file, name);
    if (typeof real !== 'function') continue;
    Object.assign(file, {
      [name]: async (...args: never[]) => {
        step();
        return await Reflect.apply(real, file, args);
      },
    });
  }
}
