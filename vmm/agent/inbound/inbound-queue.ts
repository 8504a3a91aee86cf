import { JoinedBytes } from '../joined-bytes.ts';

/**
 * Bytes of a guest's stream on their way to a Node reader. Credit goes back to the guest only for what the reader has
 * taken: a slow reader slows the guest, and nothing grows here.
 */
export class InboundQueue {
  private readonly push: (chunk: Buffer | null) => boolean;
  private readonly grant: (bytes: number) => void;
  private readonly queue: JoinedBytes[] = [];
  private ended = false;
  private wanted = false;

  /** @param push the reader's own `push` @param grant gives credit back to the guest */
  constructor(push: (chunk: Buffer | null) => boolean, grant: (bytes: number) => void) {
    this.push = push;
    this.grant = grant;
  }

  add(payload: Buffer): void {
    if (this.queue.at(-1)?.join(payload) !== true) this.queue.push(new JoinedBytes(payload));
    this.flow();
  }

  /** Nothing comes after what was added. */
  end(): void {
    this.ended = true;
    this.flow();
  }

  /** The reader wants more: its `_read`. */
  want(): void {
    this.wanted = true;
    this.flow();
  }

  private flow(): void {
    while (this.wanted) {
      const next = this.queue.shift();
      if (next === undefined) break;
      this.wanted = this.push(next.take());
      this.grant(next.length);
    }
    if (this.ended && this.queue.length === 0) {
      this.ended = false;
      this.push(null);
    }
  }
}
