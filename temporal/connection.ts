import { setTimeout as delay } from 'node:timers/promises';
import { Connection } from '@temporalio/client';
import { NativeConnection } from '@temporalio/worker';
import { KilnError, messageOf } from '../domain/failures.ts';

export interface TemporalAddress {
  /** `host:port` of the frontend. */
  readonly address: string;
  readonly namespace: string;
}

export interface ConnectOptions {
  /** How long to wait for a server that is not up yet, ms; infinite: until the signal. */
  readonly deadlineMs: number;
  /** How long one try may take, ms; default: all of the time there is. */
  readonly attemptMs?: number;
  /** Pause between two tries, ms. */
  readonly retryMs: number;
  readonly signal?: AbortSignal;
  /** Called once, if the first try has failed. */
  readonly onWaiting?: (reason: string) => void;
}

/** Connection of a client. Neither kind of connection tries twice by itself, and a server may still be starting. */
export function connectClient(where: TemporalAddress, options: ConnectOptions): Promise<Connection> {
  const { deadlineMs, attemptMs = deadlineMs } = options;
  return untilConnected(where, options, () =>
    Connection.connect({ address: where.address, connectTimeout: attemptMs }),
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
  for (let tries = 1; ; tries++) {
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
      if (tries === 1) options.onWaiting?.(messageOf(error));
      await delay(options.retryMs, undefined, options.signal ? { signal: options.signal } : {});
    }
  }
}
