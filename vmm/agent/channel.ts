import type { Duplex, Readable } from 'node:stream';
import type { GuestIdentity } from '../../domain/vm.ts';
import type {
  AgentChannel,
  AgentHello,
  AttachOptions,
  EgressHandler,
  ExecHandle,
  ExecRequest,
  ExecSummary,
  GuestUsage,
  RestoreRecord,
  SaveRecord,
  SaveRequest,
} from '../../ports/guest-agent.ts';
import { attachExec, type ExecLink, listExecs, startExec } from './exec-handle.ts';
import { requireFeature } from './features.ts';
import type { Frame, FrameReader } from './frames.ts';
import { nothing, usageMessage } from './messages.ts';
import { Mux } from './mux.ts';
import { getTar, putTar, type TarLimits } from './tar-transfer.ts';
import { connectTcp, egressOpener } from './tcp.ts';
import { restoreWorkspace, saveWorkspace } from './workspace/save-transfer.ts';

export interface ChannelParts {
  readonly socket: Duplex;
  readonly reader: FrameReader;
  readonly hello: AgentHello;
  /** Frames that came together with the hello. */
  readonly first: readonly Frame[];
  /** How long the agent may take to answer a request, ms. */
  readonly requestMs: number;
  /** Largest archive that is taken from the guest. */
  readonly maxTarBytes: number;
}

/** The host's end of the protocol of docs/agent-protocol.md, over a connection whose agent has said hello. */
export class Channel implements AgentChannel {
  readonly hello: AgentHello;
  readonly features: ReadonlySet<string>;
  readonly closed: Promise<Error>;
  private readonly mux: Mux;
  private readonly execs: ExecLink;
  private readonly requestMs: number;
  private readonly tars: TarLimits;
  private egress: EgressHandler | undefined;

  constructor(parts: ChannelParts) {
    this.hello = parts.hello;
    this.features = new Set(parts.hello.features);
    this.requestMs = parts.requestMs;
    this.tars = { idleMs: parts.requestMs, maxBytes: parts.maxTarBytes };
    this.mux = new Mux(
      parts.socket,
      parts.reader,
      egressOpener(() => this.egress),
    );
    this.execs = { mux: this.mux, hello: this.hello, timeoutMs: this.requestMs };
    this.closed = this.mux.closed;
    this.mux.start(parts.first);
  }

  ping(): Promise<void> {
    return this.mux.ping(this.requestMs);
  }

  async configure(identity: GuestIdentity): Promise<void> {
    await this.mux.call({ kind: 'configure', ...identity }, nothing, this.requestMs);
  }

  exec(request: ExecRequest, options: AttachOptions = {}): Promise<ExecHandle> {
    return startExec(this.execs, request, options);
  }

  attachExec(execId: string, options: AttachOptions = {}): Promise<ExecHandle> {
    return attachExec(this.execs, execId, options);
  }

  listExecs(): Promise<readonly ExecSummary[]> {
    return listExecs(this.execs);
  }

  putTar(path: string, tar: Readable): Promise<{ bytes: number }> {
    return putTar(this.mux, path, tar, this.tars);
  }

  getTar(root: string, paths: readonly string[], exclude: readonly string[] = []): Readable {
    return getTar(this.mux, root, { paths, exclude }, this.tars);
  }

  saveWorkspace(request: SaveRequest): AsyncIterableIterator<SaveRecord> {
    requireFeature(this.hello, 'workspace-save', 'save a workspace');
    return saveWorkspace(this.mux, request, this.requestMs);
  }

  async restoreWorkspace(
    request: Omit<SaveRequest, 'baseSaveId'>,
    records: AsyncIterable<RestoreRecord>,
  ): Promise<{ entries: number; bytes: number }> {
    requireFeature(this.hello, 'workspace-save', 'bring back a workspace');
    return restoreWorkspace(this.mux, request, records, this.requestMs);
  }

  connectTcp(port: number): Promise<Duplex> {
    return connectTcp(this.mux, port, this.requestMs);
  }

  serveEgress(handler: EgressHandler): void {
    this.egress = handler;
  }

  usage(): Promise<GuestUsage> {
    return this.mux.call({ kind: 'usage' }, usageMessage, this.requestMs);
  }

  async setClock(wallClockMs: number): Promise<void> {
    await this.mux.call({ kind: 'clock', wallClockMs }, nothing, this.requestMs);
  }

  async quiesce(): Promise<void> {
    await this.mux.call({ kind: 'quiesce' }, nothing, this.requestMs);
  }

  async shutdown(): Promise<void> {
    await this.mux.call({ kind: 'shutdown' }, nothing, this.requestMs);
  }

  detach(): Promise<void> {
    return this.mux.detach(this.requestMs);
  }
}
