import { once } from 'node:events';
import { createServer } from 'node:net';
import { expect, it, vi } from 'vitest';
import { connectClient } from '../../../temporal/connection.ts';

/** @returns an address where nothing listens any more */
async function closedAddress(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  server.close();
  await once(server, 'close');
  return `127.0.0.1:${address.port}`;
}

it('a server that is away is waited for without end where that is wanted, until the process is to end', async () => {
  const where = { address: await closedAddress(), namespace: 'default' };
  const ending = new AbortController();
  const onWaiting = vi.fn(() => setImmediate(() => ending.abort(new Error('the process ends'))));
  const patience = { deadlineMs: Number.POSITIVE_INFINITY, attemptMs: 50, retryMs: 1 };
  const connecting = connectClient(where, { ...patience, signal: ending.signal, onWaiting });
  await expect(connecting).rejects.toThrow();
  expect(ending.signal.aborted).toBe(true);
  expect(onWaiting).toHaveBeenCalledTimes(1);
});

it('elsewhere it is TEMPORAL_UNAVAILABLE after its time', async () => {
  const where = { address: await closedAddress(), namespace: 'default' };
  const connecting = connectClient(where, { deadlineMs: 1, attemptMs: 50, retryMs: 1 });
  await expect(connecting).rejects.toMatchObject({ code: 'TEMPORAL_UNAVAILABLE' });
});
