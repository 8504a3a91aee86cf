/** One process that reads strangers' folders, seen by its owner: gets one request at a time, is watched, is killed. */
import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process';
import { getCompileCacheDir } from 'node:module';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import {
  type InspectionAnswer,
  type InspectionReply,
  type InspectionRequest,
  inspectionReplySchema,
  MAX_REPLY_BYTES,
} from '../../contracts/service/inspection-messages.ts';
import { defined } from '../../domain/defined.ts';
import { ReplyLines } from './reply-lines.ts';
import { type LimitKind, type ProcessReading, type RequestLimits, RequestMeter } from './request-meter.ts';

export interface ChildOptions {
  /** Program that answers, with the protocol of `inspection/process/child-main.ts`. */
  readonly main: string;
  /** Memory that it may use beyond what it has at its start, MiB. */
  readonly memoryMib: number;
  /** Pause between two measurements of a request, ms. */
  readonly lookEveryMs: number;
  /** @returns what a process uses now; undefined where it is gone */
  readonly readProcess: (pid: number) => Promise<ProcessReading | undefined>;
}

/** Outcome of a request without an answer. */
export type Unanswered =
  | { readonly kind: 'limit'; readonly limit: LimitKind }
  /** The process ended, or sent an invalid reply: the request may not be the cause. */
  | { readonly kind: 'lost'; readonly reason: string };

export interface InspectionChild {
  readonly pid: number;
  /** Resolves once the process is gone, with the reason; never rejects. */
  readonly ended: Promise<string>;
  /**
   * Sends one request; call it only after the previous one is over. Without an answer the process is gone.
   * @throws the signal's reason where it was aborted, which kills the process; only once the process is gone
   */
  ask(request: InspectionRequest, limits: RequestLimits, signal?: AbortSignal): Promise<InspectionAnswer | Unanswered>;
  /** @returns what the process holds in memory, bytes */
  rssBytes(): Promise<number>;
  /** Ends the process. @returns once it is gone */
  kill(): Promise<void>;
}

const MIB = 1024 * 1024;
/** Where programs of the system are; the child gets nothing else of the environment, which may hold secrets. */
const ENVIRONMENT = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };
/** The kernel ends it with the thread that started it, even in a loop that never reads its input. */
const DIE_WITH_PARENT = ['setpriv', '--pdeathsig', 'KILL', '--'];
/** Share of its memory that JavaScript's objects may take; the rest is for buffers. */
const HEAP_SHARE = 0.75;
/** What V8, Node.js and the C++ library print when they get no more memory. */
const OUT_OF_MEMORY = /out of memory|allocation.failed|bad_alloc|ENOMEM/i;
const KEPT_STDERR = 4096;
const run = promisify(execFile);

/**
 * Starts a process.
 * @param startMs how long it may take until it is ready
 * @throws an Error where it does not become ready; then it is gone
 */
export async function startInspectionChild(options: ChildOptions, startMs: number): Promise<InspectionChild> {
  const child = new Child(options);
  try {
    await child.started(startMs);
    return child;
  } catch (error) {
    await child.kill();
    throw error;
  }
}

/** Where this process keeps its compiled modules, the child finds its own: it then starts in half the time. */
function environment(): NodeJS.ProcessEnv {
  return { ...ENVIRONMENT, ...defined({ NODE_COMPILE_CACHE: getCompileCacheDir() }) };
}

class Child implements InspectionChild {
  readonly ended: Promise<string>;
  private readonly options: ChildOptions;
  private readonly process: ChildProcessByStdio<Writable, Readable, Readable>;
  private readonly lines = new ReplyLines(MAX_REPLY_BYTES);
  private waiting: ((reply: InspectionReply | Error) => void) | undefined;
  private stderr = '';
  private maxRssBytes = Number.POSITIVE_INFINITY;

  constructor(options: ChildOptions) {
    this.options = options;
    const heapMib = Math.floor(options.memoryMib * HEAP_SHARE);
    const flags = [`--max-old-space-size=${heapMib}`, '--max-semi-space-size=8'];
    const [file = '', ...args] = [...DIE_WITH_PARENT, process.execPath, ...flags, options.main];
    this.process = spawn(file, args, { cwd: '/', env: environment(), stdio: ['pipe', 'pipe', 'pipe'] });
    this.ended = new Promise((resolve) => {
      this.process.on('error', (error) => resolve(error.message));
      this.process.once('close', (code, signal) => resolve(signal ?? `code ${code}`));
    });
    // A process that has ended reads nothing any more; its end is reported elsewhere.
    this.process.stdin.on('error', () => undefined);
    this.process.stdout.on('data', (chunk: Buffer) => this.hear(chunk));
    this.process.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr = (this.stderr + text).slice(-KEPT_STDERR);
    });
  }

  get pid(): number {
    return this.process.pid ?? 0;
  }

  async started(startMs: number): Promise<void> {
    const late = new AbortController();
    const reply = await Promise.race([
      this.reply(),
      this.ended.then((how) => new Error(`it ended at its start (${how}): ${this.stderr}`)),
      delay(startMs, new Error(`it was not ready after ${startMs} ms`), { signal: late.signal }).catch(() => undefined),
    ]);
    late.abort();
    if (reply instanceof Error) throw reply;
    if (reply?.kind !== 'ready') throw new Error('it did not begin with "ready"');
    await this.boundMemory(reply.dataBytes);
  }

  /** V8's heap limit does not cover buffers, and measurements have gaps: the kernel's limit always holds. */
  private async boundMemory(dataBytes: number): Promise<void> {
    const memory = this.options.memoryMib * MIB;
    const bounds = [`--data=${dataBytes + memory}`, '--core=0'];
    await run('prlimit', ['--pid', String(this.pid), ...bounds], { env: ENVIRONMENT });
    this.maxRssBytes = (await this.rssBytes()) + memory;
  }

  async ask(
    request: InspectionRequest,
    limits: RequestLimits,
    signal?: AbortSignal,
  ): Promise<InspectionAnswer | Unanswered> {
    const over = new AbortController();
    const onAbort = () => void this.kill();
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    try {
      const reply = this.reply();
      this.process.stdin.write(`${JSON.stringify(request)}\n`);
      const outcome = await Promise.race([reply, this.ended, this.watch(limits, over.signal)]);
      const found = await this.judged(outcome, request);
      signal?.throwIfAborted();
      return found;
    } finally {
      over.abort();
      this.waiting = undefined;
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** @param outcome a reply, an invalid reply, a limit, or how the process ended */
  private async judged(
    outcome: InspectionReply | Error | { limit: LimitKind } | string,
    request: InspectionRequest,
  ): Promise<InspectionAnswer | Unanswered> {
    if (typeof outcome === 'string') {
      if (OUT_OF_MEMORY.test(this.stderr)) return { kind: 'limit', limit: 'memory' };
      return { kind: 'lost', reason: `it ended (${outcome}) ${this.stderr.slice(-500)}` };
    }
    if ('limit' in outcome) {
      await this.kill();
      return { kind: 'limit', limit: outcome.limit };
    }
    const problem = nonsenseIn(outcome, request);
    if (problem === undefined && !(outcome instanceof Error) && outcome.kind !== 'ready') return outcome;
    await this.kill();
    return { kind: 'lost', reason: problem ?? 'it said what it may not' };
  }

  /** @returns the limit that the request exceeds; never resolves where the request is over before */
  private async watch(limits: RequestLimits, over: AbortSignal): Promise<{ limit: LimitKind }> {
    const { lookEveryMs, readProcess } = this.options;
    const meter = new RequestMeter({ ...limits, rssBytes: this.maxRssBytes, lookEveryMs }, performance.now());
    while (!over.aborted) {
      const reading = await readProcess(this.pid).catch(() => undefined);
      const limit = meter.look(performance.now(), reading);
      if (limit !== undefined) return { limit };
      await delay(lookEveryMs, undefined, { signal: over }).catch(() => undefined);
    }
    return new Promise(() => undefined);
  }

  async rssBytes(): Promise<number> {
    const reading = await this.options.readProcess(this.pid).catch(() => undefined);
    return reading?.rssBytes ?? 0;
  }

  async kill(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.ended;
  }

  private reply(): Promise<InspectionReply | Error> {
    return new Promise((resolve) => {
      this.waiting = resolve;
    });
  }

  private hear(chunk: Buffer): void {
    for (const reply of this.parsed(chunk)) {
      const waiting = this.waiting;
      this.waiting = undefined;
      // A reply without a request: the process gets no more requests.
      if (waiting === undefined) void this.kill();
      waiting?.(reply);
    }
  }

  private parsed(chunk: Buffer): (InspectionReply | Error)[] {
    try {
      return this.lines.push(chunk).map((line) => inspectionReplySchema.parse(JSON.parse(line)));
    } catch {
      // A stranger may have written this text, so it is not repeated.
      return [new Error('its reply is not of the form that replies have')];
    }
  }
}

function nonsenseIn(reply: InspectionReply | Error, request: InspectionRequest): string | undefined {
  if (reply instanceof Error) return reply.message;
  if (reply.kind === 'ready' || reply.id !== request.id) return 'it answered something that was not asked';
  const wanted = request.act === 'inspect' ? 'packed' : 'inspected';
  return reply.kind === wanted ? 'its answer is of another kind than the question' : undefined;
}
