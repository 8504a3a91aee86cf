import { CancellationScope } from '@temporalio/workflow';

/** Thrown out of a piece of work when its owner has to leave. Carries no reason: the owner's progress holds it. */
export class Leaving extends Error {
  override readonly name = 'Leaving';
}

/** Work of an owner, one piece at a time; it is interrupted when the owner has to leave. */
export class InterruptibleWork {
  private readonly isOver: () => boolean;
  private scope: CancellationScope | undefined;

  /** @param isOver whether the owner has to leave: then no new piece begins */
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

  /** Cancels the current piece, if any. Synchronous and idempotent: signal handlers call it. */
  interrupt(): void {
    this.scope?.cancel();
  }
}
