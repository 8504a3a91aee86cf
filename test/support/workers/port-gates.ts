/** Stops a call of a port before or after its effect, so that a test can act in the middle of an activity. */

export type Moment = 'before' | 'after';

/** Who makes a call. As a condition: an absent property matches everybody. */
export interface Caller {
  /** Of a session: its thread. */
  readonly workloadId?: string;
  readonly activity?: string;
}

interface Hold {
  readonly point: string;
  readonly by: Caller;
  readonly arrived: () => void;
  readonly released: Promise<void>;
  readonly finished: () => void;
}

interface Failure {
  readonly point: string;
  readonly by: Caller;
  readonly arrived: () => void;
  readonly error: () => Error;
}

export interface GatedCall {
  /** Resolves when the call has reached the point. */
  readonly reached: Promise<void>;
}

export interface HeldCall extends GatedCall {
  release(): void;
  /** Resolves once the call has had its effect, or failed, after its release. */
  readonly finished: Promise<void>;
}

/** A set of gates. Wrap ports with `over`, then hold points such as `vms.boot` `after`. */
export class PortGates {
  private readonly holds: Hold[] = [];
  private readonly failures: Failure[] = [];
  private readonly whoCalls: () => Caller;

  /** @param whoCalls identifies the caller, for gates that apply to one caller only */
  constructor(whoCalls: () => Caller = () => ({})) {
    this.whoCalls = whoCalls;
  }

  /** The next call that reaches this point waits there until it is released. */
  hold(port: string, moment: Moment, by: Caller = {}): HeldCall {
    const arrival = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    const end = Promise.withResolvers<void>();
    const [arrived, released, finished] = [arrival.resolve, release.promise, end.resolve];
    this.holds.push({ point: `${port} ${moment}`, by, arrived, released, finished });
    return { reached: arrival.promise, release: () => release.resolve(), finished: end.promise };
  }

  /** The next call that reaches this point fails. */
  failOnce(port: string, moment: Moment, error: () => Error, by: Caller = {}): GatedCall {
    const arrival = Promise.withResolvers<void>();
    this.failures.push({ point: `${port} ${moment}`, by, arrived: arrival.resolve, error });
    return { reached: arrival.promise };
  }

  /** @returns the ports, with gates around every method of every member. */
  over<T extends object>(ports: T): T {
    const guarded = Object.entries(ports).map(([name, member]) => [name, this.guard(name, member)]);
    return Object.fromEntries(guarded) as T;
  }

  private guard(name: string, member: unknown): unknown {
    if (typeof member !== 'object' || member === null) return member;
    return new Proxy(member, {
      get: (target, method) => {
        const value: unknown = Reflect.get(target, method, target);
        // Ports of sessions come in groups: `sessions.runs.run`.
        if (name.startsWith('session') && typeof method === 'string' && typeof value === 'object') {
          return this.guard(`${name}.${method}`, value);
        }
        if (typeof value !== 'function' || typeof method !== 'string') return value;
        return (...args: unknown[]) => this.call(`${name}.${method}`, () => Reflect.apply(value, target, args));
      },
    });
  }

  private call(point: string, work: () => unknown): unknown {
    // Synchronous methods stay synchronous.
    if (!this.isGuarded(point)) return work();
    return this.guardedCall(point, work);
  }

  private isGuarded(point: string): boolean {
    return [...this.holds, ...this.failures].some((gate) => gate.point.startsWith(`${point} `));
  }

  private async guardedCall(point: string, work: () => unknown): Promise<unknown> {
    const before = await this.pass(`${point} before`);
    try {
      const result = await work();
      (await this.pass(`${point} after`))?.finished();
      return result;
    } finally {
      before?.finished();
    }
  }

  /** @returns the gate that held the call there, if one did */
  private async pass(point: string): Promise<Hold | undefined> {
    const failure = this.take(this.failures, point);
    failure?.arrived();
    if (failure) throw failure.error();
    const hold = this.take(this.holds, point);
    hold?.arrived();
    await hold?.released;
    return hold;
  }

  /** @returns the first gate of this point that applies to the caller; it is then used up */
  private take<T extends { point: string; by: Caller }>(gates: T[], point: string): T | undefined {
    const caller = this.whoCalls();
    const isMeant = ({ workloadId, activity }: Caller) =>
      (workloadId === undefined || workloadId === caller.workloadId) &&
      (activity === undefined || activity === caller.activity);
    const at = gates.findIndex((gate) => gate.point === point && isMeant(gate.by));
    return at < 0 ? undefined : gates.splice(at, 1)[0];
  }
}
