import { KilnError } from '../../domain/failures.ts';
import type {
  AttachOptions,
  ExecExit,
  ExecHandle,
  ExecOutput,
  ExecRequest,
  ExecSummary,
} from '../../ports/guest-agent.ts';
import { OutputQueue, parseGap, parseOutput } from './exec-output.ts';
import { execExit, execList, execOpened, nothing } from './messages.ts';
import type { Mux } from './mux.ts';
import { parseReply, withTimeout } from './mux.ts';
import type { MuxStream } from './mux-stream.ts';

const MAX_LIST_BYTES = 8 * 1024 * 1024;

/**
 * Starts a process, or attaches to the existing one with this id.
 * @throws AGENT_TIMEOUT where it has not started within `timeoutMs`, AGENT_LOST, or the guest's refusal.
 */
export function startExec(
  mux: Mux,
  request: ExecRequest,
  options: AttachOptions,
  timeoutMs: number,
): Promise<ExecHandle> {
  const { execId, stdin, ...spec } = request;
  const body = Buffer.from(JSON.stringify(spec));
  return openExec(mux, { kind: 'exec', execId, bodyBytes: body.length }, execId, options, timeoutMs, async (stream) => {
    await stream.send(body);
    if (stdin !== undefined) await stream.send(stdin);
    stream.end();
  });
}

/** @throws NOT_FOUND where the guest knows no such exec, AGENT_TIMEOUT, AGENT_LOST */
export function attachExec(mux: Mux, execId: string, options: AttachOptions, timeoutMs: number): Promise<ExecHandle> {
  return openExec(mux, { kind: 'attach', execId }, execId, options, timeoutMs, async (stream) => stream.end());
}

async function openExec(
  mux: Mux,
  request: Readonly<Record<string, unknown>>,
  execId: string,
  options: AttachOptions,
  timeoutMs: number,
  feed: (stream: MuxStream) => Promise<void>,
): Promise<ExecHandle> {
  const attached = new AttachedExec(mux, execId, options, timeoutMs);
  await withTimeout<void>(timeoutMs, 'exec', (resolve, reject) => {
    const stream = attached.open({ ...request, from: options.fromOffset ?? 0 }, resolve, reject);
    feed(stream).catch(reject);
    return () => stream.reset('TIMED_OUT', 'no answer in time');
  });
  return attached;
}

/** @returns every exec that the guest knows, in the order of their starts. @throws AGENT_TIMEOUT, AGENT_LOST */
export function listExecs(mux: Mux, timeoutMs: number): Promise<readonly ExecSummary[]> {
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
  private readonly mux: Mux;
  private readonly timeoutMs: number;
  private readonly queue: OutputQueue;
  private stream: MuxStream | undefined;
  private knownPid = 0;
  private resolveExit: (exit: ExecExit) => void = () => {};
  private rejectExit: (error: KilnError) => void = () => {};

  constructor(mux: Mux, execId: string, options: AttachOptions, timeoutMs: number) {
    this.execId = execId;
    this.mux = mux;
    this.timeoutMs = timeoutMs;
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
    this.stream = this.mux.open(request, {
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
    this.mux.acknowledge(this.execId, offset);
  }

  async signal(name: 'SIGTERM' | 'SIGKILL' | 'SIGINT' | 'SIGHUP'): Promise<void> {
    await this.mux.call({ kind: 'signal', execId: this.execId, signal: name }, nothing, this.timeoutMs);
  }
}
