/** Transfers of files that a gateway has open: a bounded number, each in a session that is held meanwhile. */
import type { HeldSession, SessionClient } from '../../client/temporal/sessions/session-client.ts';
import { isKilnError, KilnError } from '../../domain/failures.ts';
import type { ThreadName } from '../../domain/names.ts';
import type { HoldKind } from '../../domain/session/holds.ts';
import type { HostEntries } from '../hosts/host-entries.ts';
import type { FilesAt } from './host-files.ts';

export interface TransferOptions {
  readonly sessions: Pick<SessionClient, 'hold'>;
  readonly hosts: HostEntries;
  /** At a time: each has two connections open. */
  readonly maxTransfers: number;
  /** Looks into saved workspaces at a time: they are short, and must not wait until transfers end. */
  readonly maxLooks: number;
  /** How long a caller waits for the VM of a session, ms. */
  readonly vmWaitMs: number;
  /** Aborted when the gateway ends. */
  readonly ending: AbortSignal;
}

/** Failures that say that the VM may not be there any more. */
const MAY_BE_GONE = ['HOST_LOST', 'AGENT_LOST', 'AGENT_TIMEOUT', 'VMM_EXITED', 'GUEST_CRASHED'] as const;

export class Transfers {
  private readonly options: TransferOptions;
  private open = 0;
  private looks = 0;

  constructor(options: TransferOptions) {
    this.options = options;
  }

  /** @throws QUEUE_FULL; what `work` throws */
  async counted<T>(work: () => Promise<T>): Promise<T> {
    const { maxTransfers } = this.options;
    if (this.open >= maxTransfers) {
      throw new KilnError('QUEUE_FULL', `This gateway transfers ${maxTransfers} files already; try again in a moment.`);
    }
    this.open += 1;
    try {
      return await work();
    } finally {
      this.open -= 1;
    }
  }

  /** @throws QUEUE_FULL; what `work` throws */
  async looked<T>(work: () => Promise<T>): Promise<T> {
    const { maxLooks } = this.options;
    if (this.looks >= maxLooks) {
      throw new KilnError('QUEUE_FULL', `This gateway looks for ${maxLooks} files already; try again in a moment.`);
    }
    this.looks += 1;
    try {
      return await work();
    } finally {
      this.looks -= 1;
    }
  }

  /**
   * Work with the files of a VM that runs.
   * @param tries `again`: where the VM was not there, the work is done once more, in the VM that there is then
   * @throws QUEUE_FULL; what holds and `work` throw
   */
  inVm<T>(name: ThreadName, kind: HoldKind, tries: 'once' | 'again', work: (at: FilesAt) => Promise<T>): Promise<T> {
    const { sessions, hosts, vmWaitMs } = this.options;
    return this.counted(() =>
      sessions.hold(name, { kind, waitMs: vmWaitMs }, async (held, ask) => {
        try {
          return await work(await this.at(held, { newest: tries === 'once' }));
        } catch (error) {
          if (!isKilnError(error, ...MAY_BE_GONE)) throw error;
          hosts.forget(held.hostId);
          // A session that has been closed meanwhile says so.
          const now = await ask();
          if (tries === 'once') throw error;
          return work(await this.at(now, { newest: true }));
        }
      }),
    );
  }

  private async at(
    { hostId, vmId, epoch, workflowId }: HeldSession,
    how: { readonly newest: boolean },
  ): Promise<FilesAt> {
    const { hosts, ending } = this.options;
    const host = await hosts.read(hostId, how);
    if (host === undefined) throw new KilnError('HOST_LOST', `Host ${hostId} has not registered lately.`, { hostId });
    return { host, vm: { vmId, epoch, workflowId }, signal: ending };
  }
}
