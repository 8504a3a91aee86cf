/** The memory that this machine has and its VMMs use, as opposed to what is reserved for them. */

import { freemem, totalmem } from 'node:os';
import { singleFlight } from '../../concurrency/single-flight.ts';
import type { HostMemory } from '../../domain/capacity/host-entry.ts';
import { messageOf } from '../../domain/failures.ts';
import type { VmDriver } from '../../ports/vm-driver.ts';
import type { HostLogger } from '../host-logger.ts';

const MIB = 1024 * 1024;
/** The pause after a measurement is at least so many times as long as it took. */
const PAUSES = 100;

export interface MemoryGaugeOptions {
  readonly driver: Pick<VmDriver, 'list' | 'usage'>;
  /** Shortest pause between two measurements of the VMMs, ms: each reads every mapping of every one. */
  readonly everyMs: number;
  /** Memory that must stay available, MiB; absent: a twentieth of the machine, at most 1024. */
  readonly floorMib?: number;
  readonly logger: HostLogger;
  /** Bytes that the kernel could give to new processes; default: the kernel's own figure. */
  readonly available?: () => number;
  readonly now?: () => number;
}

export interface MemoryGauge {
  /** Available memory is read now; what the VMMs use was measured `everyMs` ago at most, or longer where they are many. */
  read(): Promise<HostMemory>;
  /** @returns whether there is memory for one more VM. Cheap. */
  allowsMore(): boolean;
}

export function createMemoryGauge(options: MemoryGaugeOptions): MemoryGauge {
  const { driver, everyMs, logger, available = freemem, now = Date.now } = options;
  const floorMib = options.floorMib ?? defaultFloorMib(totalmem());
  let measured: { at: number; tookMs: number; vmsMib: number } | undefined;

  const measure = async (): Promise<void> => {
    let bytes = 0;
    const begun = now();
    // One after the other, to avoid a burst of work.
    for (const vmId of await driver.list()) {
      const used = await driver.usage(vmId).catch(() => undefined);
      bytes += used?.shareBytes ?? used?.memoryBytes ?? 0;
    }
    const at = now();
    measured = { at, tookMs: at - begun, vmsMib: Math.round(bytes / MIB) };
  };
  const measureOnce = singleFlight(() =>
    measure().catch((error: unknown) => {
      logger.warn({ reason: messageOf(error) }, 'the memory of the VMs could not be measured');
    }),
  );
  const availableMib = () => Math.floor(available() / MIB);

  return {
    allowsMore: () => availableMib() >= floorMib,
    async read() {
      if (measured === undefined || now() - measured.at >= Math.max(everyMs, PAUSES * measured.tookMs)) {
        await measureOnce();
      }
      return { availableMib: availableMib(), floorMib, vmsMib: measured?.vmsMib ?? 0 };
    },
  };
}

/** @returns how much memory a machine of this size keeps free by default, MiB. Pure. */
export function defaultFloorMib(totalBytes: number): number {
  return Math.min(1024, Math.floor(totalBytes / MIB / 20));
}
