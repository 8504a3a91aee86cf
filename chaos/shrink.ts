/**
 * The shortest part of a list that still fails, as far as leaving out pieces finds it (delta debugging): pieces of half
 * the list, then of a quarter, down to single items.
 * @param fails runs a part; true where it fails as the whole did
 * @param budget runs allowed; the shortest schedule by then is the answer
 */
export async function shrink<T>(
  items: readonly T[],
  fails: (part: readonly T[]) => Promise<boolean>,
  budget: number,
): Promise<readonly T[]> {
  let shortest = items;
  let left = budget;
  for (let size = Math.ceil(shortest.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < shortest.length; ) {
      if (left <= 0) return shortest;
      const part = [...shortest.slice(0, at), ...shortest.slice(at + size)];
      if (part.length === 0) break;
      left -= 1;
      if (await fails(part)) shortest = part;
      else at += size;
    }
  }
  return shortest;
}
