/**
 * The processes in which a host reads strangers' folders: started in advance and reused. A folder that takes too much
 * gets its process killed and replaced; the others continue.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { InspectionAnswer, InspectionRequest } from '../contracts/service/inspection-messages.ts';
import { backoffMs } from '../domain/policies.ts';
import { FairQueue } from './fair-queue.ts';
import { printable } from './folders/service-folder.ts';
import {
  type Asker,
  type Inspections,
  type InspectWork,
  inspectionLimit,
  manifestOf,
  type PackWork,
  packedOf,
} from './inspections.ts';
import { type ChildOptions, type InspectionChild, startInspectionChild } from './process/child-process.ts';
import type { LimitKind, RequestLimits } from './process/request-meter.ts';

export interface InspectionSettings {
  /** Number of processes; each works on one folder at a time. */
  readonly children: number;
  /** Memory that a folder may take, MiB. */
  readonly memoryMib: number;
  /** Limits for checking a folder, including its unpacking. */
  readonly inspect: RequestLimits;
  /** Limits for packing a folder, including its unpacking. */
  readonly pack: RequestLimits;
  readonly lookEveryMs: number;
  /** Most waiting requests, in all and for one project. */
  readonly maxWaiting: number;
  readonly maxWaitingPerProject: number;
  /** A process is replaced after this many requests, or once it holds this much memory, MiB. */
  readonly recycleAfter: number;
  readonly recycleMib: number;
  /** How long a process may take to start, ms. */
  readonly startMs: number;
  /** Pauses between starts that fail, ms. */
  readonly restartMs: number;
  readonly maxRestartMs: number;
}

export interface InspectionPoolOptions extends InspectionSettings {
  readonly readProcess: ChildOptions['readProcess'];
  readonly logger: { warn(details: object, message: string): void };
  /** Program of the processes; default: the one in this folder. */
  readonly main?: string;
}

export interface InspectionPool extends Inspections {
  /** Starts the processes. @returns at once; requests wait until a process is ready */
  start(): void;
  /** @returns pids of the processes that are ready now */
  pids(): number[];
  /** Ends the processes; running and waiting requests fail. @returns once they are gone */
  stop(): Promise<void>;
}

interface Job {
  readonly work: InspectWork & { readonly packedPath?: string };
  readonly asker: Asker;
  readonly limits: RequestLimits;
  readonly done: PromiseWithResolvers<InspectionAnswer>;
}

const MAIN = fileURLToPath(new URL('process/child-main.ts', import.meta.url));
const MIB = 1024 * 1024;

/** @returns a pool that is not started yet. */
export function createInspectionPool(options: InspectionPoolOptions): InspectionPool {
  return new Pool(options);
}

class Pool implements InspectionPool {
  private readonly options: InspectionPoolOptions;
  private readonly queue: FairQueue<Job>;
  private readonly children = new Set<InspectionChild>();
  private readonly stopping = new AbortController();
  private slots: Promise<void>[] = [];
  private added = Promise.withResolvers<void>();
  private count = 0;

  constructor(options: InspectionPoolOptions) {
    this.options = options;
    this.queue = new FairQueue({ max: options.maxWaiting, maxPerOwner: options.maxWaitingPerProject });
  }

  async inspect(work: InspectWork, asker: Asker) {
    const { inspect: limits } = this.options;
    return manifestOf(await this.answerTo({ work, asker, limits }));
  }

  async pack(work: PackWork, asker: Asker) {
    const { pack: limits } = this.options;
    return packedOf(await this.answerTo({ work, asker, limits }));
  }

  start(): void {
    this.slots = Array.from({ length: this.options.children }, () => this.keepServing());
  }

  pids(): number[] {
    return [...this.children].map(({ pid }) => pid);
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    this.added.resolve();
    for (const { done } of this.queue.drain()) done.reject(new Error('the host is ending'));
    await Promise.all([...this.children].map((child) => child.kill()));
    await Promise.all(this.slots);
  }

  private async answerTo(asked: Omit<Job, 'done'>): Promise<InspectionAnswer> {
    const { owner, signal } = asked.asker;
    signal?.throwIfAborted();
    const done = Promise.withResolvers<InspectionAnswer>();
    const job: Job = { ...asked, done };
    if (this.stopping.signal.aborted || !this.queue.add(owner, job)) {
      throw new Error('more services wait to be read on this host than it takes; they are read later');
    }
    this.added.resolve();
    this.added = Promise.withResolvers();
    // A request that a process works on is cancelled in that process.
    const onAbort = () => {
      if (this.queue.remove(owner, job)) done.reject(signal?.reason);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await done.promise;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** Runs one process after another until the pool stops. */
  private async keepServing(): Promise<void> {
    for (let failures = 0; !this.stopping.signal.aborted; ) {
      let child: InspectionChild;
      try {
        child = await this.startChild();
        failures = 0;
      } catch (error) {
        failures += 1;
        await this.pauseAfter(failures, error);
        continue;
      }
      this.children.add(child);
      await this.serve(child);
      this.children.delete(child);
      await child.kill();
    }
  }

  private startChild(): Promise<InspectionChild> {
    const { main = MAIN, memoryMib, lookEveryMs, readProcess, startMs } = this.options;
    return startInspectionChild({ main, memoryMib, lookEveryMs, readProcess }, startMs);
  }

  private async pauseAfter(failures: number, error: unknown): Promise<void> {
    const { restartMs, maxRestartMs, logger } = this.options;
    const reason = error instanceof Error ? error.message : String(error);
    logger.warn({ failures, reason }, 'a process that reads services did not start; it is started again');
    if (this.children.size === 0) {
      for (const { done } of this.queue.drain()) done.reject(new Error(`services cannot be read here: ${reason}`));
    }
    const pause = backoffMs(failures, restartMs, maxRestartMs);
    await delay(pause, undefined, { signal: this.stopping.signal }).catch(() => undefined);
  }

  /** @returns once the process must be replaced */
  private async serve(child: InspectionChild): Promise<void> {
    let isGone = false;
    const gone = child.ended.then(() => {
      isGone = true;
    });
    for (let served = 0; served < this.options.recycleAfter; ) {
      if (isGone || this.stopping.signal.aborted) return;
      const { promise: added } = this.added;
      const job = this.queue.take();
      if (job === undefined) {
        await Promise.race([added, gone]);
        continue;
      }
      if (!(await this.carryOut(job, child))) return;
      served += 1;
      if ((await child.rssBytes()) > this.options.recycleMib * MIB) return;
    }
  }

  /** @returns whether the process can take another request */
  private async carryOut({ work, asker, limits, done }: Job, child: InspectionChild): Promise<boolean> {
    this.count += 1;
    try {
      const outcome = await child.ask(requestOf(work, this.count), limits, asker.signal);
      if (outcome.kind === 'lost') {
        this.options.logger.warn(
          { reason: outcome.reason },
          'a process that reads services is lost; another is started',
        );
        done.reject(new Error('the process that read the service was lost; it is read again'));
        return false;
      }
      if (outcome.kind === 'limit') {
        done.reject(inspectionLimit(outcome.limit, this.explain(outcome.limit, work.servicePath, limits)));
        return false;
      }
      done.resolve(outcome);
      return outcome.kind !== 'exhausted';
    } catch (error) {
      done.reject(error);
      return false;
    }
  }

  private explain(limit: LimitKind, servicePath: string, { cpuMs, wallMs }: RequestLimits): string {
    const allowed = {
      cpu: `${cpuMs / 1000} s of CPU time`,
      memory: `${this.options.memoryMib} MiB of memory`,
      wall: `${wallMs / 1000} s`,
    };
    return `Reading the service ${printable(servicePath)} took more than ${allowed[limit]}.`;
  }
}

function requestOf({ packedPath, ...work }: Job['work'], id: number): InspectionRequest {
  return packedPath === undefined ? { ...work, id, act: 'inspect' } : { ...work, id, act: 'pack', packedPath };
}
