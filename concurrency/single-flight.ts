/** Shares running work among all callers that ask for it meanwhile. No result is stored: later callers start again. */
export class SingleFlight<T, Key = string> {
  private readonly flights = new Map<Key, Promise<T>>();

  /** Joins the running work of this key, or begins it. A failure reaches every waiting caller. */
  run(key: Key, work: () => Promise<T>): Promise<T> {
    const found = this.flights.get(key);
    if (found !== undefined) return found;
    const flight = work().finally(() => this.flights.delete(key));
    this.flights.set(key, flight);
    return flight;
  }

  /** @returns the work of this key that is under way */
  underWay(key: Key): Promise<T> | undefined {
    return this.flights.get(key);
  }
}

/** @returns the work, done once for all callers while it runs, with the arguments of the first caller */
export function singleFlight<Args extends readonly unknown[], T>(
  work: (...args: Args) => Promise<T>,
): (...args: Args) => Promise<T> {
  const flights = new SingleFlight<T>();
  return (...args) => flights.run('', () => work(...args));
}
