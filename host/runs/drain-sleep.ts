/** Lets sessions sleep whose host is to take no new work: their next runs find another host. */
import { messageOf } from '../../domain/failures.ts';
import type { VmOwner } from '../../domain/vm.ts';
import type { InstanceStore } from '../../vmm/instance-record.ts';
import type { HostLogger } from '../host-logger.ts';

/** Asks a VM's owner to give it up as soon as it can. Fails where the owner cannot be asked now. */
export type TellSleep = (owner: VmOwner) => Promise<void>;

export interface DrainSleepOptions {
  readonly records: Pick<InstanceStore, 'list' | 'read'>;
  readonly tell: TellSleep;
  readonly logger: HostLogger;
}

export interface DrainSleep {
  /** Called again and again. While the host drains, each session on it is asked once; one that could not be is asked again. */
  rest(draining: boolean): void;
  /** Waits until nobody is being asked. */
  settled(): Promise<void>;
}

export function createDrainSleep({ records, tell, logger }: DrainSleepOptions): DrainSleep {
  const asked = new Set<string>();
  let round: Promise<void> | undefined;
  const askAll = async () => {
    for (const vmId of await records.list()) {
      // What is damaged names no owner.
      const record = asked.has(vmId) ? undefined : await records.read(vmId).catch(() => undefined);
      if (record?.owner.role !== 'session') continue;
      try {
        await tell(record.owner);
        asked.add(vmId);
      } catch (error) {
        logger.warn({ vmId, reason: messageOf(error) }, 'the owner of a VM is asked later to give it up');
      }
    }
  };
  return {
    rest(draining) {
      if (!draining) asked.clear();
      else {
        round ??= askAll()
          .catch((error: unknown) => {
            logger.warn({ reason: messageOf(error) }, 'the sessions of this draining host are asked later to sleep');
          })
          .finally(() => {
            round = undefined;
          });
      }
    },
    settled: async () => round,
  };
}
