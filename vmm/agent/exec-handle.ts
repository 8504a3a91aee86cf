import { KilnError } from '../../domain/failures.ts';
import type {
  AgentHello,
  AttachOptions,
  ExecExit,
  ExecHandle,
  ExecOutput,
  ExecRequest,
  ExecSummary,
  ExecUsage,
} from '../../ports/guest-agent.ts';
import { OutputQueue, parseGap, parseOutput } from './exec-output.ts';
import { requireFeature } from './features.ts';
import { execExit, execList, execOpened, execUsageMessage, nothing } from './messages.ts';
import type { Mux } from './mux.ts';
import { parseReply, withTimeout } from './mux.ts';
import type { MuxStream } from './mux-stream.ts';

const MAX_LIST_BYTES = 8 * 1024 * 1024;

/** What every exec of one channel needs. */
export interface ExecLink {
  readonly mux: Mux;
  readonly hello: AgentHello;
  /** How long the agent may take to answer a request, ms. */
  readonly timeoutMs: number;
}

/**
 * Starts a process, or attaches to the existing one with this id.
 * @throws UNSUPPORTED where the agent cannot do what is asked, AGENT_TIMEOUT where it has not started within
 *   `timeoutMs`, AGENT_LOST, or the guest's refusal.
 */
export async function startExec(link: ExecLink, request: ExecRequest, options: AttachOptions): Promise<ExecHandle> {
  if (request.killLeftoversAfterMs !== undefined) {
    requireFeature(link.hello, 'exec-cgroup', 'kill what an exec leaves behind');
  }
  const { execId, stdin, ...spec } = request;
  const body = Buffer.from(JSON.stringify(spec));
  return openExec(link, { kind: 'exec', execId, bodyBytes: body.length }, options, async (stream) => {
    await stream.send(body);
    if (stdin !== undefined) await stream.send(stdin);
    stream.end();
  });
}

/** @throws NOT_FOUND where the guest knows no such exec, AGENT_TIMEOUT, AGENT_LOST */
export function attachExec(link: ExecLink, execId: string, options: AttachOptions): Promise<ExecHandle> {
  return openExec(link, { kind: 'attach', execId }, options, async (stream) => stream.end());
}

async function openExec(
  link: ExecLink,
  request: Readonly<Record<string, unknown>> & { readonly execId: string },
  options: AttachOptions,
  feed: (stream: MuxStream) => Promise<void>,
): Promise<ExecHandle> {
  const attached = new AttachedExec(link, request.execId, options);
  await withTimeout<void>(link.timeoutMs, 'exec', (resolve, reject) => {
    const stream = attached.open({ ...request, from: options.fromOffset ?? 0 }, resolve, reject);
    feed(stream).catch(reject);
    return () => stream.reset('TIMED_OUT', 'no answer in time');
  });
  return attached;
}

/** @returns every exec that the guest knows, in the order of their starts. @throws AGENT_TIMEOUT, AGENT_LOST */
export function listExecs({ mux, timeoutMs }: ExecLink): Promise<readonly ExecSummary[]> {
  return withTimeout(timeoutMs, 'list', (resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const stream = mux.open(
      { kind: 'list' },
      {
        data: (payload) => {
          size += payload.length;
          if (size > MAX_LIST_BYTES) throw new KilnError('AGENT_PROTOCOL', 'The guest agent sent an endless list.');
          chunks.push(payload);
          stream.grant(payload.length);
        },
        done: () => parseReply(execList, Buffer.concat(chunks), resolve, reject),
        failed: reject,
      },
    );
    return () => stream.reset('TIMED_OUT', 'no answer in time');
  });
}

class AttachedExec implements ExecHandle {
  readonly execId: string;
  readonly exit: Promise<ExecExit>;
  private readonly link: ExecLink;
  private readonly queue: OutputQueue;
  private stream: MuxStream | undefined;
  private knownPid = 0;
  private resolveExit: (exit: ExecExit) => void = () => {};
  private rejectExit: (error: KilnError) => void = () => {};

  constructor(link: ExecLink, execId: string, options: AttachOptions) {
    this.execId = execId;
    this.link = link;
    const onHandled = options.manualAck === true ? () => {} : (offset: number) => this.acknowledge(offset);
    this.queue = new OutputQueue(options.fromOffset ?? 0, (cost) => this.stream?.grant(cost), onHandled);
    this.exit = new Promise((resolve, reject) => {
      this.resolveExit = resolve;
      this.rejectExit = reject;
    });
    // A caller that only reads the output learns of a lost channel there.
    this.exit.catch(() => {});
  }

  get pid(): number {
    return this.knownPid;
  }

  get output(): AsyncIterable<ExecOutput> {
    return this.queue;
  }

  open(request: Readonly<Record<string, unknown>>, resolve: () => void, reject: (error: Error) => void): MuxStream {
    this.stream = this.link.mux.open(request, {
      opened: (payload) =>
        parseReply(
          execOpened,
          payload,
          ({ pid }) => {
            this.knownPid = pid;
            resolve();
          },
          reject,
        ),
      output: (payload) => this.queue.push(parseOutput(payload), payload.length),
      gap: (payload) => this.queue.push(parseGap(payload), payload.length),
      exit: (payload) => this.ended(payload),
      failed: (error) => {
        reject(error);
        this.failed(error);
      },
    });
    return this.stream;
  }

  private ended(payload: Buffer): void {
    parseReply(
      execExit,
      payload,
      (exit) => {
        this.queue.end();
        this.resolveExit(exit);
      },
      (error) => this.failed(error),
    );
  }

  private failed(error: KilnError): void {
    this.queue.fail(error);
    this.rejectExit(error);
  }

  acknowledge(offset: number): void {
    this.link.mux.acknowledge(this.execId, offset);
  }

  async signal(name: 'SIGTERM' | 'SIGKILL' | 'SIGINT' | 'SIGHUP'): Promise<void> {
    const { mux, timeoutMs } = this.link;
    await mux.call({ kind: 'signal', execId: this.execId, signal: name }, nothing, timeoutMs);
  }

  async usage(): Promise<ExecUsage> {
    const { mux, hello, timeoutMs } = this.link;
    requireFeature(hello, 'exec-usage', 'tell what an exec uses');
    return mux.call({ kind: 'exec-usage', execId: this.execId }, execUsageMessage, timeoutMs);
  }
}
