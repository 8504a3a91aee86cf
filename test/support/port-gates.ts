/** Holds a call of a port before or after its effect, so that a test can act in the middle of an activity. */

type Moment = 'before' | 'after';

interface Hold {
  readonly point: string;
  readonly arrived: () => void;
  readonly released: Promise<void>;
}

export interface HeldCall {
  /** Resolves when the call has come to the point. */
  readonly reached: Promise<void>;
  release(): void;
}

/** One set of gates; lay it over ports, then hold points such as `vms.boot` `after`. */
export class PortGates {
  private readonly holds: Hold[] = [];
  private readonly failures = new Map<string, () => Error>();

  /** The next call that comes to this point waits there until it is released. */
  hold(port: string, moment: Moment): HeldCall {
    const arrival = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    this.holds.push({ point: `${port} ${moment}`, arrived: arrival.resolve, released: release.promise });
    return { reached: arrival.promise, release: () => release.resolve() };
  }

  /** The next call that comes to this point fails. */
  failOnce(port: string, moment: Moment, error: () => Error): void {
    this.failures.set(`${port} ${moment}`, error);
  }

  /** @returns the ports with every method of every member guarded. */
  over<T extends object>(ports: T): T {
    const guarded = Object.entries(ports).map(([name, member]) => [name, this.guard(name, member)]);
    return Object.fromEntries(guarded) as T;
  }

  private guard(name: string, member: unknown): unknown {
    if (typeof member !== 'object' || member === null) return member;
    return new Proxy(member, {
      get: (target, method) => {
        const value: unknown = Reflect.get(target, method, target);
        if (typeof value !== 'function' || typeof method !== 'string') return value;
        return (...args: unknown[]) => this.call(`${name}.${method}`, () => Reflect.apply(value, target, args));
      },
    });
  }

  private call(point: string, work: () => unknown): unknown {
    // Methods that answer at once stay so.
    if (!this.isGuarded(point)) return work();
    return this.guardedCall(point, work);
  }

  private isGuarded(point: string): boolean {
    const points = [...this.holds.map((hold) => hold.point), ...this.failures.keys()];
    return points.some((held) => held.startsWith(`${point} `));
  }

  private async guardedCall(point: string, work: () => unknown): Promise<unknown> {
    await this.pass(`${point} before`);
    const result = await work();
    await this.pass(`${point} after`);
    return result;
  }

  private async pass(point: string): Promise<void> {
    const error = this.failures.get(point);
    if (error) {
      this.failures.delete(point);
      throw error();
    }
    const hold = this.holds.find((candidate) => candidate.point === point);
    if (!hold) return;
    this.holds.splice(this.holds.indexOf(hold), 1);
    hold.arrived();
    await hold.released;
  }
}
