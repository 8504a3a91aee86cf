import { afterAll, beforeAll, expect, it } from 'vitest';
import type { WaitingRequest } from '../../domain/capacity/waiting-line.ts';
import type { ObjectStore } from '../../store/object-store.ts';
import { createWaitingLine } from '../../store/workloads/waiting-line.ts';
import { freshObjectStore } from '../support/servers/object-store.ts';

let store: ObjectStore;
beforeAll(async () => {
  store = await freshObjectStore();
});
afterAll(() => store.close());

const request = (workloadId: string, more: Partial<WaitingRequest> = {}): WaitingRequest => ({
  workloadId,
  priority: 3,
  sinceMs: 1_700_000_000_000,
  resources: { vcpus: 2, memMib: 1024 },
  ...more,
});

it('the line tells who waits and when each was last seen; joining and leaving may be repeated', async () => {
  const line = createWaitingLine(store);
  const own = request('w-1-2-3');
  for (const _ of [1, 2]) await line.join(own);
  await line.join(request('w', { priority: 1 }));
  // A key that does not follow our pattern is ignored.
  await store.writeDocument('waiting/9-x', {});
  const found = await line.list();
  expect(found.map(({ request: one }) => one)).toEqual([request('w', { priority: 1 }), own]);
  for (const { seenMs } of found) expect(Math.abs(seenMs - Date.now())).toBeLessThan(600_000);
  await line.join(request('w-1-2-3', { resources: { vcpus: 4, memMib: 2048 } }));
  for (const _ of [1, 2]) await line.leave('w-1-2-3');
  expect((await line.list()).map(({ request: one }) => one.workloadId)).toEqual(['w']);
});
