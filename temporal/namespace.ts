import { setTimeout as delay } from 'node:timers/promises';
import type { Connection } from '@temporalio/client';
import proto from '@temporalio/proto';
import { KilnError } from '../domain/failures.ts';
import { SEARCH_ATTRIBUTES } from '../domain/names.ts';

/** gRPC status: the attribute is there already. */
const ALREADY_EXISTS = 6;

/** @returns the id of a namespace: a VM's owner is only comparable within one. @throws TEMPORAL_UNAVAILABLE */
export async function namespaceId(connection: Connection, namespace: string): Promise<string> {
  const found = await connection.workflowService.describeNamespace({ namespace });
  const id = found.namespaceInfo?.id;
  if (!id) throw new KilnError('TEMPORAL_UNAVAILABLE', `Temporal has no namespace "${namespace}". Create it first.`);
  return id;
}

/** Finds or makes Kiln's search attributes, then waits until the server lets them be used. Safe to run by many at once. */
export async function ensureSearchAttributes(
  connection: Connection,
  namespace: string,
  options: { deadlineMs: number; retryMs: number },
): Promise<void> {
  const deadline = Date.now() + options.deadlineMs;
  while ((await missingAttributes(connection, namespace)).length > 0) {
    await addAttributes(connection, namespace, await missingAttributes(connection, namespace));
    if (Date.now() >= deadline) {
      const names = (await missingAttributes(connection, namespace)).join(', ');
      throw new KilnError('TEMPORAL_UNAVAILABLE', `Search attributes are missing in "${namespace}": ${names}`);
    }
    await delay(options.retryMs);
  }
}

async function missingAttributes(connection: Connection, namespace: string): Promise<string[]> {
  const known = await connection.operatorService.listSearchAttributes({ namespace });
  return SEARCH_ATTRIBUTES.filter((name) => known.customAttributes[name] === undefined);
}

async function addAttributes(connection: Connection, namespace: string, names: readonly string[]): Promise<void> {
  // The package is CommonJS, whose names plain Node does not see one by one.
  const keyword = proto.temporal.api.enums.v1.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD;
  const searchAttributes = Object.fromEntries(names.map((name) => [name, keyword]));
  try {
    await connection.operatorService.addSearchAttributes({ namespace, searchAttributes });
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === ALREADY_EXISTS)) throw error;
  }
}
