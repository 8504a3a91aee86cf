/** Work that all who ask for it while it is under way share. Nothing is remembered: who asks later has it done again. */
export class SingleFlight<T, Key = string> {
  private readonly flights = new Map<Key, Promise<T>>();

  /** Joins the work of this key that is under way, or begins it. A failure is everybody's who waited. */
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

/** @returns the work, done once for all who ask while it is being done; the arguments are those of who asked first */
export function singleFlight<Args extends readonly unknown[], T>(
  work: (...args: Args) => Promise<T>,
): (...args: Args) => Promise<T> {
  const flights = new SingleFlight<T>();
  return (...args) => flights.run('', () => work(...args));
}
