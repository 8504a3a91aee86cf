import { setTimeout as delay } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { NativeConnection } from '@temporalio/worker';
import { KilnError } from '../domain/failures.ts';

export interface TemporalAddress {
  /** `host:port` of the frontend. */
  readonly address: string;
  readonly namespace: string;
}

export interface ConnectOptions {
  /** How long to wait for a server that is not up yet, ms. */
  readonly deadlineMs: number;
  /** Pause between two tries, ms. */
  readonly retryMs: number;
  readonly signal?: AbortSignal;
}

/** Connection of a client. Neither kind of connection tries twice by itself, and a server may still be starting. */
export function connectClient(where: TemporalAddress, options: ConnectOptions): Promise<Connection> {
  return untilConnected(where, options, () =>
    Connection.connect({ address: where.address, connectTimeout: options.deadlineMs }),
  );
}

/** Connection of a worker. @throws TEMPORAL_UNAVAILABLE */
export function connectWorker(where: TemporalAddress, options: ConnectOptions): Promise<NativeConnection> {
  return untilConnected(where, options, () => NativeConnection.connect({ address: where.address }));
}

async function untilConnected<T>(
  where: TemporalAddress,
  options: ConnectOptions,
  connect: () => Promise<T>,
): Promise<T> {
  const deadline = Date.now() + options.deadlineMs;
  for (;;) {
    try {
      return await connect();
    } catch (error) {
      options.signal?.throwIfAborted();
      if (Date.now() >= deadline) {
        throw new KilnError(
          'TEMPORAL_UNAVAILABLE',
          `No Temporal server answers at ${where.address}. Start one with \`kiln dev\`, or set TEMPORAL_ADDRESS.`,
          { address: where.address },
          error,
        );
      }
      await delay(options.retryMs, undefined, options.signal ? { signal: options.signal } : {});
    }
  }
}
