/** Brings sealed parts of log spools to the object store, in the background and when asked. */

import { SingleFlight } from '../../concurrency/single-flight.ts';
import { messageOf } from '../../domain/failures.ts';
import { logChunkKey } from '../../domain/logs/log-keys.ts';
import type { LogRef } from '../../domain/owner.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import type { HostLogger } from '../host-logger.ts';
import type { LogSpool } from './spool.ts';

export interface LogShipperOptions {
  readonly store: Pick<ObjectStore, 'putBlob'>;
  readonly writer: string;
  /** Pause between two rounds in the background, ms. */
  readonly everyMs: number;
  readonly logger: HostLogger;
}

export interface SpoolToShip {
  readonly log: LogRef;
  readonly spool: LogSpool;
}

export interface LogShipper {
  /** Ships all of one spool; callers at the same time share the work. @throws STORE_UNAVAILABLE */
  ship(target: SpoolToShip): Promise<void>;
  /** Begins to ship whatever `list` names, round by round. */
  start(list: () => Promise<readonly SpoolToShip[]>): void;
  /** Ends the background rounds; waits for one that runs. */
  stop(): Promise<void>;
}

/** @returns a shipper; nothing happens until `ship` or `start`. */
export function createLogShipper(options: LogShipperOptions): LogShipper {
  const flights = new SingleFlight<void, LogSpool>();
  let timer: NodeJS.Timeout | undefined;
  let round: Promise<void> = Promise.resolve();
  let stopped = false;

  const shipNow = async ({ log, spool }: SpoolToShip): Promise<void> => {
    await spool.ship(async ({ first, path }) => {
      await options.store.putBlob(logChunkKey(log, options.writer, first), { path });
    });
  };
  const ship = async (target: SpoolToShip): Promise<void> => {
    // A shipment that already runs may have begun before the caller's last line: wait for it, then make another one.
    await flights.underWay(target.spool)?.catch(() => undefined);
    return flights.run(target.spool, () => shipNow(target));
  };
  const runRound = async (list: () => Promise<readonly SpoolToShip[]>): Promise<void> => {
    for (const target of await list()) {
      if (stopped) return;
      if (target.spool.unshippedBytes > 0) await ship(target);
    }
  };
  const schedule = (list: () => Promise<readonly SpoolToShip[]>): void => {
    if (stopped) return;
    timer = setTimeout(() => {
      round = runRound(list)
        .catch((error: unknown) => {
          const reason = messageOf(error);
          options.logger.warn({ reason }, 'logs could not be shipped; they stay in the spool');
        })
        .finally(() => schedule(list));
    }, options.everyMs);
  };
  return {
    ship,
    start: schedule,
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await round;
    },
  };
}
