/** A Temporal client that has reached its namespace. */

import { Client, Connection, type ConnectionOptions, isGrpcServiceError, ServiceError } from '@temporalio/client';
import { defined } from '../../domain/defined.ts';
import { KilnError } from '../../domain/failures.ts';
import { isNoWorkflow, withDeadline } from '../temporal/temporal-calls.ts';

/** Address of Temporal, and who connects. */
export interface TemporalAddressOptions {
  /** `host:port` of the frontend. */
  readonly address: string;
  /** Default `default`. */
  readonly namespace?: string;
  /** `true`, or certificates, as for `Connection.connect` of `@temporalio/client`. */
  readonly tls?: ConnectionOptions['tls'];
  readonly apiKey?: string;
  /** Deadline of the first connection, ms; default 10,000. */
  readonly connectMs?: number;
}

/** An address, or the caller's own client, which Kiln's client does not close. */
export type TemporalOptions = TemporalAddressOptions | { readonly client: Client };

export interface OpenedTemporal {
  readonly client: Client;
  close(): Promise<void>;
}

const CONNECT_MS = 10_000;
const UNAUTHORIZED_STATUS: readonly number[] = [7, 16];

/** @throws TEMPORAL_UNAVAILABLE, UNAUTHORIZED, CONFIG_INVALID (no such namespace) */
export async function openTemporal(options: TemporalOptions): Promise<OpenedTemporal> {
  if ('client' in options) {
    await checkNamespace(options.client, CONNECT_MS);
    return { client: options.client, close: async () => undefined };
  }
  const { namespace = 'default', connectMs = CONNECT_MS } = options;
  const connection = await connect(options, connectMs);
  const client = new Client({ connection, namespace });
  try {
    await checkNamespace(client, connectMs);
  } catch (error) {
    await connection.close();
    throw error;
  }
  return { client, close: () => connection.close() };
}

async function connect({ address, tls, apiKey }: TemporalAddressOptions, connectMs: number): Promise<Connection> {
  try {
    return await Connection.connect({
      address,
      connectTimeout: connectMs,
      ...defined({ tls, apiKey }),
    });
  } catch (error) {
    throw refusal(error) ?? unreachable(address, error);
  }
}

async function checkNamespace(client: Client, deadlineMs: number): Promise<void> {
  const { namespace } = client.options;
  try {
    await withDeadline(client, deadlineMs, () => client.workflowService.describeNamespace({ namespace }));
  } catch (error) {
    if (!isNoWorkflow(error)) throw refusal(error) ?? error;
    throw new KilnError(
      'CONFIG_INVALID',
      `Temporal has no namespace "${namespace}"; name the one that Kiln's workers use.`,
      { namespace },
      error,
    );
  }
}

function refusal(error: unknown): KilnError | undefined {
  const cause = error instanceof ServiceError ? error.cause : error;
  if (!isGrpcServiceError(cause) || !UNAUTHORIZED_STATUS.includes(cause.code)) return undefined;
  const message = 'Temporal refused the credentials; check certificate or API key, and their rights on the namespace.';
  return new KilnError('UNAUTHORIZED', message, {}, error);
}

function unreachable(address: string, error: unknown): KilnError {
  const reason = error instanceof Error ? error.message : String(error);
  return new KilnError(
    'TEMPORAL_UNAVAILABLE',
    `No Temporal server answers at ${address}: ${reason}. Check address, TLS settings and that the server runs.`,
    { address },
    error,
  );
}
