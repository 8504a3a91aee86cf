/** One process that reads strangers' folders, as its owner sees it: asked one thing at a time, watched, killed. */
import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process';
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
import { ReplyLines } from './reply-lines.ts';
import { type LimitKind, type ProcessReading, type RequestLimits, RequestMeter } from './request-meter.ts';

export interface ChildOptions {
  /** Program that answers, of `inspection/process/child-main.ts`. */
  readonly main: string;
  /** Memory that it may take beyond what it has when it starts, MiB. */
  readonly memoryMib: number;
  /** Pause between two looks at what a request takes, ms. */
  readonly lookEveryMs: number;
  /** @returns what a process uses now; undefined where it is gone */
  readonly readProcess: (pid: number) => Promise<ProcessReading | undefined>;
}

/** How a request came out that has no answer. */
export type Unanswered =
  | { readonly kind: 'limit'; readonly limit: LimitKind }
  /** The process ended, or spoke nonsense: what was asked may not be to reportFailure. */
  | { readonly kind: 'lost'; readonly reason: string };

export interface InspectionChild {
  readonly pid: number;
  /** Resolves once the process is gone, with how that came; never rejects. */
  readonly ended: Promise<string>;
  /**
   * Asks one thing; not to be called before the one before it is over. Where it has no answer the process is gone.
   * @throws the signal's reason, once the process is gone, which an abort kills
   */
  ask(request: InspectionRequest, limits: RequestLimits, signal?: AbortSignal): Promise<InspectionAnswer | Unanswered>;
  /** @returns what the process holds in memory, bytes */
  rssBytes(): Promise<number>;
  /** Ends the process. @returns once it is gone */
  kill(): Promise<void>;
}

const MIB = 1024 * 1024;
/** Where programs of the system are; the child is told nothing else of the environment, which may hold secrets. */
const ENVIRONMENT = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };
/** The kernel ends it with the thread that started it, also in the middle of a loop that never looks at its input. */
const DIE_WITH_PARENT = ['setpriv', '--pdeathsig', 'KILL', '--'];
/** Share of its memory that JavaScript's objects may take; the rest is for buffers. */
const HEAP_SHARE = 0.75;
/** What V8, Node and the C++ library say when they get no memory any more. */
const OUT_OF_MEMORY = /out of memory|allocation.failed|bad_alloc|ENOMEM/i;
const KEPT_STDERR = 4096;
const run = promisify(execFile);

/**
 * Starts a process.
 * @param startMs how long it may take until it can be asked
 * @throws an Error where it does not come to that; then it is gone
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
    this.process = spawn(file, args, { cwd: '/', env: ENVIRONMENT, stdio: ['pipe', 'pipe', 'pipe'] });
    this.ended = new Promise((resolve) => {
      this.process.on('error', (error) => resolve(error.message));
      this.process.once('close', (code, signal) => resolve(signal ?? `code ${code}`));
    });
    // One that ended hears nothing any more, and its end is told elsewhere.
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

  /** The bound of V8's heap knows nothing of buffers, and a look comes only now and then: the kernel's holds always. */
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

  /** @param outcome a reply, nonsense, a limit, or how the process ended */
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

  /** @returns the limit that the request goes beyond; never, where it is over before */
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
      // Words that nobody asked for: it will never be asked anything again.
      if (waiting === undefined) void this.kill();
      waiting?.(reply);
    }
  }

  private parsed(chunk: Buffer): (InspectionReply | Error)[] {
    try {
      return this.lines.push(chunk).map((line) => inspectionReplySchema.parse(JSON.parse(line)));
    } catch {
      // What it said is a stranger's text by now, so it is not repeated.
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
