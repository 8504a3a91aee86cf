/** A guest whose worker died between its spawn and the answer to `configure`, taken over by the next worker. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Host } from '../../../host/host.ts';
import type { ObjectStore } from '../../../store/object-store.ts';
import {
  createFakeHost,
  type FakeHostPlaces,
  fakeDriverAt,
  IMAGE_DIGEST,
  ownerOf,
  placesBelow,
} from '../../support/host/fake-host.ts';
import { whatIsLeft } from '../../support/host/nothing-left.ts';
import { freshObjectStore } from '../../support/servers/object-store.ts';

const VM = 'abc-1-1';
const DEADLINE_MS = 60_000;
let places: FakeHostPlaces;
let store: ObjectStore;

beforeEach(async () => {
  places = placesBelow(await mkdtemp(join(tmpdir(), 'kh-')));
  store = await freshObjectStore();
});
afterEach(async () => {
  store.close();
  await rm(places.root, { recursive: true, force: true });
});

const newHost = () =>
  createFakeHost(places, { store, driver: fakeDriverAt(places), owners: { lookup: async () => 'open' } });

/** @returns the host name inside the guest */
async function hostnameIn(host: Host): Promise<string> {
  const agent = await host.vms.agent(VM);
  const exec = await agent.exec({ execId: `who-${Math.random()}`, argv: ['hostname'], cwd: '/', output: 'wait' });
  let said = '';
  for await (const part of exec.output) if (part.kind === 'data') said += part.data.toString();
  return said.trim();
}

it('is told who it is before anything runs in it, and once more only where that is not known', async () => {
  const first = await newHost();
  await first.start();
  const making = { owner: ownerOf('w1'), imageDigest: IMAGE_DIGEST, resources: { vcpus: 1, memMib: 128 } };
  await first.vms.provision({ ...making, vmId: VM });
  // Everything that the worker does before it is killed: the guest has said hello.
  const { agent, pid } = await fakeDriverAt(places).start(VM, { deadlineMs: DEADLINE_MS });
  await agent.detach();
  await first.detach();
  const next = await newHost();
  expect(await next.start()).toMatchObject({ adoptions: [{ vmId: VM, adopted: true }] });
  expect(await next.vms.boot({ vmId: VM, hostname: 'w1', deadlineMs: DEADLINE_MS })).toMatchObject({ pid });
  expect(await hostnameIn(next)).toBe('w1');
  // A repeated boot finds the guest and does not change it.
  expect(await next.vms.boot({ vmId: VM, hostname: 'w2', deadlineMs: DEADLINE_MS })).toMatchObject({ pid });
  expect(await hostnameIn(next)).toBe('w1');
  await next.vms.release(VM, { graceMs: 0 });
  await next.detach();
  expect(await whatIsLeft(places)).toEqual([]);
});
