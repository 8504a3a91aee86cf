/** A hash of 64 bits that needs no crypto, for names and look-ups inside workflows: short and stable, not secret. */

/** @returns two 32-bit halves: FNV-1a with two seeds */
export function hash64(text: string): readonly [high: number, low: number] {
  return [fnv1a(0x811c9dc5, text), fnv1a(0x01000193, text)];
}

function fnv1a(seed: number, text: string): number {
  let hash = seed;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
    hash ^= hash >>> 15;
  }
  return hash >>> 0;
}
