/** A pending workload says itself what it waits for: the reason names what is missing and where. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hostEntrySchema } from '../../../contracts/store/host-entry.ts';
import type { HostEntry } from '../../../domain/capacity/host-entry.ts';
import { createImageCatalog } from '../../../rootfs/image/image-catalog.ts';
import { writeHostEntry } from '../../../store/hosts/host-directory.ts';
import { writeHostDrain } from '../../../store/hosts/host-drains.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import { freshObjectStore } from '../../support/servers/object-store.ts';
import { type Harness, startHarness } from '../../support/workers/kiln-harness.ts';

const GHOST: HostEntry = {
  hostId: 'ghost',
  url: 'http://127.0.0.1:1',
  // Always looks fresh, but no worker polls its queue.
  at: '2100-01-01T00:00:00.000Z',
  capacity: { vcpus: 8, memMib: 8_192 },
  free: { vcpus: 8, memMib: 8_192 },
  load: 0,
  images: [],
  driver: 'fake',
  versions: {},
  draining: false,
};

let kiln: Harness;
let empty: ObjectStore;
beforeAll(async () => {
  empty = await freshObjectStore();
  const published = createImageCatalog(empty);
  kiln = await startHarness({
    withHost: false,
    capacity: { vcpus: 1, memMib: 1_000 },
    policies: {
      placement: { deadlineMs: 60_000, backoffMs: 20, maxBackoffMs: 100 },
      host: { scheduleToStartMs: 500, lostAfterMs: 2_500, recheckMs: 100 },
    },
    controlPorts: (ports) => ({
      ...ports,
      images: { resolve: (name) => (name === 'absent' ? published : ports.images).resolve(name) },
    }),
  });
});
afterAll(async () => {
  await kiln.close();
  empty.close();
});

const WAIT = { timeout: 20_000 };

/** Waits until the reason of a waiting workload contains `text`. */
async function untilReason(id: string, text: string): Promise<void> {
  await expect.poll(async () => (await kiln.workloads.get(id)).state.waiting?.reason ?? '', WAIT).toContain(text);
  const { state } = await kiln.workloads.get(id);
  expect([state.stage, Date.parse(state.waiting?.since ?? '') <= Date.now()]).toEqual(['pending', true]);
}

describe('a pending workload', () => {
  it('tells what it waits for while that changes, and runs once it may', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'waits');
    await untilReason('waits', 'No host has registered. Start one with `kiln worker host`.');
    await writeHostEntry(kiln.store, { ...GHOST, at: '2020-01-01T00:00:00.000Z' });
    await untilReason('waits', 'No host has been heard of lately: ghost not since 2020-01-01T00:00:00.000Z');
    await writeHostEntry(kiln.store, { ...GHOST, draining: true });
    await untilReason('waits', 'Every host that answers is drained and takes no new work: ghost.');
    await writeHostEntry(kiln.store, { ...GHOST, free: { vcpus: 8, memMib: 412 } });
    await untilReason('waits', 'Every host is full for now: 1 vCPU and 512 MiB asked for, ghost lacks 100 MiB.');
    await writeHostEntry(kiln.store, GHOST);
    await untilReason('waits', 'There is room, but the host has refused or its worker does not take tasks: ghost.');
    await writeHostEntry(kiln.store, { ...GHOST, draining: true });
    await kiln.startHost();
    const running = await kiln.untilStage('waits', 'running');
    expect(running.waiting).toBeUndefined();
    await kiln.workloads.stop('waits', { waitMs: 20_000 });
  });

  it('waits while its host is drained; what ran there before goes on, and it runs when the host takes work again', async () => {
    await kiln.workloads.create({ servicePath: 'plain' }, 'stays');
    const stays = await kiln.untilStage('stays', 'running');
    await writeHostDrain(kiln.store, { hostId: 'h1', draining: true, at: new Date().toISOString() });
    await expect
      .poll(async () => (await kiln.store.readDocument('hosts/h1.json', hostEntrySchema))?.value.draining, WAIT)
      .toBe(true);
    await kiln.workloads.create({ servicePath: 'plain' }, 'drained');
    await untilReason('drained', 'Every host that answers is drained and takes no new work');
    expect((await fetch(stays.vm?.url ?? '')).status).toBe(200);
    await kiln.workloads.stop('stays', { waitMs: 20_000 });
    await writeHostDrain(kiln.store, { hostId: 'h1', draining: false, at: new Date().toISOString() });
    await kiln.untilStage('drained', 'running');
    await kiln.workloads.stop('drained', { waitMs: 20_000 });
    expect(await kiln.left()).toEqual([]);
  });

  it('does not wait for what cannot come: an image that is not there, more than any host has', async () => {
    await kiln.workloads.create({ servicePath: 'plain', image: 'absent' }, 'no-image');
    await kiln.workloads.create({ servicePath: 'plain', resources: { vcpus: 1, memMib: 65_536 } }, 'huge');
    expect((await kiln.untilStage('no-image', 'failed')).failure).toMatchObject({
      code: 'IMAGE_MISSING',
      stage: 'pending',
    });
    expect((await kiln.untilStage('huge', 'failed')).failure).toMatchObject({ code: 'NO_CAPACITY', stage: 'pending' });
    await kiln.judge();
  });
});
