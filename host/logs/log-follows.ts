/** Readers that wait for the next line of a log, or for something to happen to its owner on this host. */

import { randomUUID } from 'node:crypto';
import { defined } from '../../domain/defined.ts';
import { KilnError } from '../../domain/failures.ts';
import type { NumberedLogEntry } from '../../domain/logs/log-entry.ts';
import type { LogStage } from '../../domain/logs/log-stage.ts';
import { type LogRef, type OwnerId, ownerWorkflowId } from '../../domain/owner.ts';

export interface LogFollowsOptions {
  /** Longest time that one request is held, ms. */
  readonly maxHoldMs: number;
  /** Most requests that are held at a time. */
  readonly max: number;
  readonly read: (log: LogRef, after: number, limit: number) => Promise<readonly NumberedLogEntry<LogStage>[]>;
  /** Placements of an owner that have lines here, ascending. */
  readonly epochs: (owner: OwnerId) => Promise<readonly number[]>;
}

export interface FollowRequest {
  readonly owner: OwnerId;
  /** Absent: the newest here. */
  readonly epoch?: number;
  /** Entries above this number are wanted. */
  readonly after: number;
  readonly limit: number;
  /** Mark of the last answer; where it is absent or differs from the present one, the answer comes at once. */
  readonly mark?: string;
  /** Longest wait, ms; 0: none. */
  readonly waitMs: number;
  /** Aborted when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
}

export interface FollowAnswer {
  readonly entries: readonly NumberedLogEntry<LogStage>[];
  /** Absent: there is no log of it here. */
  readonly epoch?: number;
  /**
   * Identifies the work for the owner that runs here: it changes whenever a piece of work begins or ends. Absent
   * where none runs: then what happens to the owner happens elsewhere.
   */
  readonly mark?: string;
}

export interface LogFollows {
  /** Answers when there are entries, the mark differs from the request's, or the time is over. @throws QUEUE_FULL */
  follow(request: FollowRequest): Promise<FollowAnswer>;
  /** A piece of work for an owner begins. @returns the function to call at its end */
  attend(owner: OwnerId): () => void;
  /** There are new lines of an owner. */
  wake(owner: OwnerId): void;
  /** Requests that are held now. */
  readonly held: number;
  /** Answers every request, and holds none from now on. */
  end(): void;
}

/** @returns a host's waiting readers, for one process only. */
export function createLogFollows(options: LogFollowsOptions): LogFollows {
  return new Follows(options);
}

class Follows implements LogFollows {
  private readonly options: LogFollowsOptions;
  private readonly bells = new Map<string, Set<() => void>>();
  private readonly work = new Map<string, { readonly pieces: number; readonly mark: string }>();
  /** Makes the marks of this process differ from those of earlier ones. */
  private readonly life = randomUUID().slice(0, 8);
  private marks = 0;
  private ended = false;
  held = 0;

  constructor(options: LogFollowsOptions) {
    this.options = options;
  }

  async follow(request: FollowRequest): Promise<FollowAnswer> {
    if (request.waitMs === 0) return this.look(request);
    if (this.held >= this.options.max) {
      throw new KilnError('QUEUE_FULL', `This host holds ${this.options.max} readers of logs already.`);
    }
    this.held += 1;
    const deadline = performance.now() + Math.min(request.waitMs, this.options.maxHoldMs);
    try {
      for (;;) {
        // Created before the check, so that no change between the check and the wait is missed.
        const bell = this.bell(request, deadline);
        try {
          const answer = await this.look(request);
          const isNews = answer.entries.length > 0 || answer.mark === undefined || answer.mark !== request.mark;
          if (isNews || (await bell.rung) === 'over') return answer;
        } finally {
          bell.putAway();
        }
      }
    } finally {
      this.held -= 1;
    }
  }

  attend(owner: OwnerId): () => void {
    const key = ownerWorkflowId(owner);
    this.count(key, 1);
    let isOver = false;
    return () => {
      if (!isOver) this.count(key, -1);
      isOver = true;
    };
  }

  wake(owner: OwnerId): void {
    this.ring(ownerWorkflowId(owner));
  }

  end(): void {
    this.ended = true;
    for (const key of this.bells.keys()) this.ring(key);
  }

  private ring(key: string): void {
    for (const ring of this.bells.get(key) ?? []) ring();
  }

  private count(key: string, change: 1 | -1): void {
    const pieces = (this.work.get(key)?.pieces ?? 0) + change;
    this.marks += 1;
    if (pieces > 0) this.work.set(key, { pieces, mark: `${this.life}-${this.marks}` });
    else this.work.delete(key);
    this.ring(key);
  }

  private async look({ owner, epoch, after, limit }: FollowRequest): Promise<FollowAnswer> {
    const known = epoch ?? (await this.options.epochs(owner)).at(-1);
    const entries = known === undefined ? [] : await this.options.read({ ...owner, epoch: known }, after, limit);
    const mark = this.ended ? undefined : this.work.get(ownerWorkflowId(owner))?.mark;
    return {
      entries,
      ...defined({ epoch: known, mark }),
    };
  }

  /** @returns a promise for the next call of `wake`, or for the end of the wait */
  private bell({ owner, signal }: FollowRequest, deadline: number) {
    const key = ownerWorkflowId(owner);
    const { promise, resolve } = Promise.withResolvers<'rung' | 'over'>();
    const bells = this.bells.get(key) ?? new Set();
    this.bells.set(key, bells);
    const ring = () => resolve('rung');
    const over = () => resolve('over');
    bells.add(ring);
    signal.addEventListener('abort', over, { once: true });
    if (signal.aborted) over();
    const timer = setTimeout(over, Math.max(0, deadline - performance.now()));
    const putAway = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', over);
      bells.delete(ring);
      if (bells.size === 0 && this.bells.get(key) === bells) this.bells.delete(key);
    };
    return { rung: promise, putAway };
  }
}
