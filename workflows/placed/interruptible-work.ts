import { CancellationScope } from '@temporalio/workflow';

/** Thrown out of a piece of work once its owner is to leave; carries nothing, the owner's progress knows why. */
export class Leaving extends Error {
  override readonly name = 'Leaving';
}

/** Work of an owner, a piece at a time, that is interrupted where the owner is to leave. */
export class InterruptibleWork {
  private readonly isOver: () => boolean;
  private scope: CancellationScope | undefined;

  /** @param isOver whether the owner is to leave: then no piece begins any more */
  constructor(isOver: () => boolean) {
    this.isOver = isOver;
  }

  /** Runs a piece so that `interrupt` cancels it. @throws Leaving */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.isOver()) throw new Leaving();
    this.scope = new CancellationScope();
    try {
      return await this.scope.run(work);
    } finally {
      this.scope = undefined;
    }
  }

  /** Cancels the piece that is under way, if any. Synchronous and idempotent: signal handlers call it. */
  interrupt(): void {
    this.scope?.cancel();
  }
}
