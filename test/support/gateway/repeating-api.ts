/** The typed client as a patient caller uses it. */
import type { KilnClient } from '../../../client/http/kiln-client.ts';
import { throughOutages } from '../workers/dev-stack.ts';

/**
 * @returns the client with reads of JSON that are repeated while nobody answers them in time: on a busy machine a worker
 * that lives may take longer than the deadline of a query
 */
export function repeatingApi(api: KilnClient): KilnClient {
  const repeated = Object.entries(api).map(([name, method]): [string, unknown] => {
    if (!/^(get|list)[A-Z]/.test(name) || typeof method !== 'function') return [name, method];
    return [name, (...given: unknown[]) => throughOutages(() => Promise.resolve(Reflect.apply(method, api, given)))];
  });
  return { ...api, ...Object.fromEntries(repeated) };
}
