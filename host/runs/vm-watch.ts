/** Sees the end of VMs that wait for their next run: nobody else would notice it until then. */
import { setTimeout as sleep } from 'node:timers/promises';
import { messageOf } from '../../domain/failures.ts';
import type { VmExit, VmOwner } from '../../domain/vm.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import type { HostLogger } from '../host-logger.ts';

/** Tells a VM's owner that the VM has ended. Fails where the owner cannot be told now. */
export type TellVmGone = (owner: VmOwner, vmId: string, exit: VmExit) => Promise<void>;

export interface VmWatchOptions {
  readonly waitExit: (vmId: string, signal: AbortSignal) => Promise<VmExit>;
  readonly records: Pick<InstanceStore, 'read'>;
  readonly tell: TellVmGone;
  /** Pause before an owner that could not be told is told again, ms. */
  readonly retryMs: number;
  readonly logger: HostLogger;
}

export interface VmWatch {
  /** Watches a VM until it is gone, or nobody has a claim to it any more. A second call changes nothing. */
  watch(vmId: string): void;
  end(): void;
}

export function createVmWatch(options: VmWatchOptions): VmWatch {
  const watched = new Set<string>();
  const ending = new AbortController();
  return {
    watch(vmId) {
      if (watched.has(vmId) || ending.signal.aborted) return;
      watched.add(vmId);
      void untilTold(options, vmId, ending.signal).finally(() => watched.delete(vmId));
    },
    end: () => ending.abort(),
  };
}

async function untilTold(options: VmWatchOptions, vmId: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    try {
      const exit = await options.waitExit(vmId, signal);
      const record = await options.records.read(vmId);
      // Released: its owner has asked for that.
      if (record === undefined) return;
      return await options.tell(record.owner, vmId, exit);
    } catch (error) {
      if (signal.aborted) return;
      options.logger.warn({ vmId, reason: messageOf(error) }, 'the owner of a VM could not be told of its end');
    }
    await sleep(options.retryMs, undefined, { signal }).catch(() => undefined);
  }
}
