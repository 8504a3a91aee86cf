import { CancellationScope } from '@temporalio/workflow';

/** One resource that must be released in every case. Registered before it is acquired. */
export interface Undo {
  readonly name: string;
  readonly hostId: string;
  /** Releases the resource; `cause` says why. Must be safe to call where nothing was acquired. */
  readonly release: (cause: string) => Promise<void>;
}

export interface FailedUndo {
  readonly name: string;
  readonly hostId: string;
  readonly message: string;
}

/** Releases to run, last in first out. */
export class UndoLedger {
  private readonly entries: Undo[] = [];

  /** Call before the acquire, so that everything that may exist is known. */
  register(undo: Undo): void {
    this.entries.push(undo);
  }

  /** Drops an entry whose resource is proven gone. */
  settle(undo: Undo): void {
    const at = this.entries.indexOf(undo);
    if (at >= 0) this.entries.splice(at, 1);
  }

  /** Removes one entry and releases it now. @returns the failure, if the release failed. */
  async releaseOne(undo: Undo, cause: string): Promise<FailedUndo | undefined> {
    this.settle(undo);
    return CancellationScope.nonCancellable(() => attempt(undo, cause));
  }

  /** Releases all, last first; a failure does not stop the rest. @returns what could not be released. */
  async releaseAll(cause: string): Promise<FailedUndo[]> {
    const failed: FailedUndo[] = [];
    for (let undo = this.entries.pop(); undo !== undefined; undo = this.entries.pop()) {
      const current = undo;
      const failure = await CancellationScope.nonCancellable(() => attempt(current, cause));
      if (failure) failed.push(failure);
    }
    return failed;
  }
}

async function attempt(undo: Undo, cause: string): Promise<FailedUndo | undefined> {
  try {
    await undo.release(cause);
    return undefined;
  } catch (error) {
    const root = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    return { name: undo.name, hostId: undo.hostId, message: root instanceof Error ? root.message : String(root) };
  }
}
