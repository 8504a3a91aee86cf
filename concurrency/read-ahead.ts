/**
 * Begins the work on items before the reader asks for them, and gives the results in the order of the items.
 * @param depth items at a time, results that nobody has taken yet included
 * @returns once it is over, or its reader has left, no item is read any more; work that has begun goes on unheard
 */
export async function* readAhead<T, U>(
  items: AsyncIterable<T>,
  depth: number,
  work: (item: T) => U | Promise<U>,
): AsyncGenerator<U, undefined> {
  const from = items[Symbol.asyncIterator]();
  const begun: Promise<IteratorResult<U, undefined>>[] = [];
  // Items come one by one, also where several are asked for: only the work on them runs side by side.
  let last: Promise<unknown> = Promise.resolve();
  const begin = () => {
    const item = last.then(() => from.next());
    last = item;
    const result = item.then(
      async (next): Promise<IteratorResult<U, undefined>> =>
        next.done === true ? { done: true, value: undefined } : { done: false, value: await work(next.value) },
    );
    result.catch(() => undefined);
    begun.push(result);
  };
  try {
    for (;;) {
      while (begun.length < depth) begin();
      const next = await begun.shift();
      if (next === undefined || next.done === true) return undefined;
      yield next.value;
    }
  } finally {
    // Not waited for: an item that never comes must not hold up the reader.
    Promise.resolve(from.return?.()).catch(() => undefined);
  }
}
