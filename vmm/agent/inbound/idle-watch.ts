import { KilnError } from '../../../domain/failures.ts';

/** Limits each single wait for the guest. */
export class IdleWatch {
  /** Why the wait was given up. */
  expired: KilnError | undefined;
  private readonly what: string;
  private readonly ms: number;
  private readonly giveUp: (reason: string) => void;
  private timer: NodeJS.Timeout | undefined;
  private fail: (error: KilnError) => void = () => {};

  /** @param what stands still, e.g. `An archive` @param giveUp ends the transfer */
  constructor(what: string, ms: number, giveUp: (reason: string) => void) {
    this.what = what;
    this.ms = ms;
    this.giveUp = giveUp;
  }

  /** @throws AGENT_TIMEOUT where the work takes too long */
  async during<T>(work: Promise<T>): Promise<T> {
    const expiry = new Promise<never>((_resolve, reject) => {
      this.fail = reject;
    });
    this.start();
    try {
      return await Promise.race([work, expiry]);
    } finally {
      this.stop();
    }
  }

  start(): void {
    this.timer ??= setTimeout(() => {
      this.expired = new KilnError('AGENT_TIMEOUT', `${this.what} stood still in the guest agent for ${this.ms} ms.`);
      this.fail(this.expired);
      this.giveUp('it stands still');
    }, this.ms);
  }

  /** A sign of life: the wait that goes on begins anew. */
  touch(): void {
    if (this.expired === undefined) this.timer?.refresh();
  }

  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }
}
