/**
 * One live agent channel per VM. A lost one is attached again, by one attempt at a time for all callers, and in the
 * background too: guests open connections by themselves, perhaps while no caller asks.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createKeyedLock } from '../../concurrency/keyed-lock.ts';
import { isKilnError, KilnError, messageOf } from '../../domain/failures.ts';
import type { AgentChannel } from '../../ports/guest-agent.ts';
import type { StartedVm, VmDriver } from '../../ports/vm-driver.ts';
import type { HostLogger } from '../host-logger.ts';

export interface ReattachOptions {
  /** Time for one attempt, ms. */
  readonly attemptMs: number;
  /** Pause after the first failed attempt, doubled each time, ms. */
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
  /** Time for all attempts together, ms; the next caller then starts again. */
  readonly deadlineMs: number;
}

export interface VmChannelsOptions {
  readonly driver: Pick<VmDriver, 'attach'>;
  readonly reattach: ReattachOptions;
  readonly logger: HostLogger;
  /** Called once for every channel before any caller gets it. */
  readonly onAttached: (vmId: string, channel: AgentChannel) => void;
}

interface Entry {
  channel?: AgentChannel;
  attaching?: Promise<AgentChannel>;
  /** Aborted once nobody may attach any more: the VM is being ended, or this process. */
  readonly giveUp: AbortController;
}

export interface VmChannels {
  /**
   * Opens the VM's channel other than by an attach: by a start or a resume. Nobody attaches meanwhile, since an agent
   * serves one at a time; other callers get this channel.
   * @param how gets the live channel, if there is one
   */
  open(vmId: string, how: (live: AgentChannel | undefined) => Promise<StartedVm>): Promise<StartedVm>;
  /** @returns the live channel, if there is one now */
  live(vmId: string): AgentChannel | undefined;
  /** The live channel, or a new one. @throws NOT_FOUND, VMM_EXITED, AGENT_TIMEOUT */
  get(vmId: string): Promise<AgentChannel>;
  /**
   * Stops attaching for good and passes the channel to the code that ends the VM; then detaches it.
   * @param how gets the live channel, if there is one
   */
  end<T>(vmId: string, how: (live: AgentChannel | undefined) => Promise<T>): Promise<T>;
  /** Detaches from every guest for good, without disturbing it. */
  detachAll(): Promise<void>;
  readonly attached: readonly string[];
}

/** @returns channels of one host; none is opened until asked for. */
export function createVmChannels(options: VmChannelsOptions): VmChannels {
  return new Channels(options);
}

class Channels implements VmChannels {
  private readonly entries = new Map<string, Entry>();
  private readonly options: VmChannelsOptions;
  /** One caller at a time opens or ends a VM's channel. See docs/architecture.md, "Lock order". */
  private readonly turns = createKeyedLock();
  private closed = false;

  constructor(options: VmChannelsOptions) {
    this.options = options;
  }

  get attached(): readonly string[] {
    return [...this.entries].filter(([, entry]) => entry.channel !== undefined).map(([vmId]) => vmId);
  }

  live(vmId: string): AgentChannel | undefined {
    return this.entries.get(vmId)?.channel;
  }

  open(vmId: string, how: (live: AgentChannel | undefined) => Promise<StartedVm>): Promise<StartedVm> {
    return this.turns.run(vmId, async () => {
      const started = await how(this.live(vmId));
      this.adopt(vmId, started.agent);
      return started;
    });
  }

  private adopt(vmId: string, channel: AgentChannel): void {
    if (this.closed) {
      // From a start that ended after all others were detached: it would keep this process alive and its guest taken.
      void channel.detach().catch(() => undefined);
      return;
    }
    const entry = this.entry(vmId);
    if (entry.channel === channel) return;
    entry.channel = channel;
    this.options.onAttached(vmId, channel);
    void channel.closed.then((reason) => this.lost(vmId, entry, channel, reason));
  }

  async get(vmId: string): Promise<AgentChannel> {
    if (this.closed) throw new KilnError('CANCELLED', 'This host is shutting down; its VMs live on.');
    const entry = this.entry(vmId);
    if (entry.channel !== undefined) return entry.channel;
    entry.attaching ??= this.attach(vmId, entry).finally(() => {
      delete entry.attaching;
      // An entry without a channel need not be kept.
      if (entry.channel === undefined && this.entries.get(vmId) === entry) this.entries.delete(vmId);
    });
    return entry.attaching;
  }

  async end<T>(vmId: string, how: (live: AgentChannel | undefined) => Promise<T>): Promise<T> {
    const entry = this.entry(vmId);
    entry.giveUp.abort(beingReleased(vmId));
    try {
      return await this.turns.run(vmId, () => how(entry.channel));
    } finally {
      this.entries.delete(vmId);
      await entry.channel?.detach().catch(() => undefined);
    }
  }

  async detachAll(): Promise<void> {
    this.closed = true;
    const entries = [...this.entries.values()];
    this.entries.clear();
    await Promise.all(
      entries.map(async (entry) => {
        entry.giveUp.abort(new KilnError('CANCELLED', 'This host is shutting down; its VMs live on.'));
        await entry.attaching?.catch(() => undefined);
        await entry.channel?.detach().catch(() => undefined);
      }),
    );
  }

  private entry(vmId: string): Entry {
    const found = this.entries.get(vmId);
    if (found !== undefined) return found;
    const entry: Entry = { giveUp: new AbortController() };
    this.entries.set(vmId, entry);
    return entry;
  }

  private lost(vmId: string, entry: Entry, channel: AgentChannel, reason: Error): void {
    if (entry.channel !== channel) return;
    delete entry.channel;
    if (this.closed || entry.giveUp.signal.aborted || this.entries.get(vmId) !== entry) return;
    this.options.logger.warn({ vmId, reason: reason.message }, 'the channel to a guest is lost; attaching anew');
    this.get(vmId).catch((error: unknown) => {
      const message = messageOf(error);
      this.options.logger.warn({ vmId, reason: message }, 'no new channel to the guest');
    });
  }

  private async attach(vmId: string, entry: Entry): Promise<AgentChannel> {
    const { reattach } = this.options;
    const signal = entry.giveUp.signal;
    const deadline = performance.now() + reattach.deadlineMs;
    for (let pauseMs = reattach.backoffMs; ; pauseMs = Math.min(pauseMs * 2, reattach.maxBackoffMs)) {
      signal.throwIfAborted();
      const left = deadline - performance.now();
      try {
        const deadlineMs = Math.max(1, Math.min(reattach.attemptMs, left));
        return await this.turns.run(vmId, () => this.attachOnce(vmId, entry, deadlineMs));
      } catch (error) {
        signal.throwIfAborted();
        if (isFinal(error) || performance.now() + pauseMs >= deadline) throw error;
        await sleep(pauseMs, undefined, { signal });
      }
    }
  }

  private async attachOnce(vmId: string, entry: Entry, deadlineMs: number): Promise<AgentChannel> {
    const { signal } = entry.giveUp;
    signal.throwIfAborted();
    // Opened in another way while this waited for its turn.
    if (entry.channel !== undefined) return entry.channel;
    const { agent } = await this.options.driver.attach(vmId, { deadlineMs, signal });
    if (signal.aborted) {
      await agent.detach().catch(() => undefined);
      signal.throwIfAborted();
    }
    this.adopt(vmId, agent);
    return agent;
  }
}

function beingReleased(vmId: string): KilnError {
  return new KilnError('NOT_FOUND', `The VM ${vmId} is being released.`);
}

/** Errors that no further attempt can change. */
function isFinal(error: unknown): boolean {
  return isKilnError(error, 'NOT_FOUND', 'VMM_EXITED', 'GUEST_CRASHED');
}
