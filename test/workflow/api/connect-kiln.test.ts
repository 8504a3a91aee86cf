/** `connectKiln` against real servers: if one is missing or wrong, it fails at once with a code and a fix. */
import { Client, Connection } from '@temporalio/client';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { connectKiln } from '../../../client/connect/connect-kiln.ts';
import { freshObjectStore } from '../../support/servers/object-store.ts';
import { makeNamespace } from '../../support/workers/kiln-harness.ts';

let connection: Connection;
let client: Client;
let store: { endpoint: string; bucket: string; credentials: { accessKeyId: string; secretAccessKey: string } };
const NOBODY = '127.0.0.1:1';

beforeAll(async () => {
  connection = await Connection.connect({ address: inject('temporalAddress') });
  client = new Client({ connection, namespace: await makeNamespace(connection) });
  const { endpoint, accessKeyId, secretAccessKey } = inject('s3');
  const made = await freshObjectStore();
  made.close();
  store = { endpoint, bucket: made.bucket, credentials: { accessKeyId, secretAccessKey } };
});
afterAll(() => connection.close());

const address = () => ({ address: inject('temporalAddress'), namespace: client.options.namespace });

it('opens by address, and closes what it has opened', async () => {
  const kiln = await connectKiln({ temporal: address(), store });
  await expect(kiln.workloads.get('none')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  await kiln.close();
  await expect(kiln.workloads.get('none')).rejects.toThrow();
});

it('takes a client of the caller, and leaves it open', async () => {
  const kiln = await connectKiln({ temporal: { client }, store });
  expect(await kiln.workloads.list({ limit: 10 })).toEqual({ items: [] });
  await kiln.close();
  expect((await client.workflowService.getSystemInfo({})).serverVersion).not.toBe('');
});

it.each([
  ['no Temporal', { temporal: { address: NOBODY, connectMs: 300 } }, 'TEMPORAL_UNAVAILABLE', NOBODY],
  ['no namespace', { temporal: { namespace: 'none-such' } }, 'CONFIG_INVALID', 'none-such'],
  ['no store', { store: { endpoint: `http://${NOBODY}` } }, 'STORE_UNAVAILABLE', NOBODY],
  ['no bucket', { store: { bucket: 'none-such' } }, 'STORE_UNAVAILABLE', 'none-such'],
  ['another key', { store: { credentials: { accessKeyId: 'x', secretAccessKey: 'y' } } }, 'STORE_UNAVAILABLE', 'key'],
  ['a prefix that is none', { store: { prefix: '/' } }, 'CONFIG_INVALID', 'prefix'],
] as const)('%s: %s', async (_, wrong, code, named) => {
  const temporal = { ...address(), ...('temporal' in wrong ? wrong.temporal : {}) };
  const options = { temporal, store: { ...store, ...('store' in wrong ? wrong.store : {}) } };
  await expect(connectKiln(options)).rejects.toMatchObject({ code, message: expect.stringContaining(named) });
});
