import { expect, it } from 'vitest';
import type { HostEntry } from '../../../domain/capacity/host-entry.ts';
import { readiness } from '../../../gateway/readiness.ts';

const NOW = Date.parse('2030-01-01T00:00:00Z');
const host = (hostId: string, more: { draining?: boolean; ageMs?: number } = {}): HostEntry => ({
  hostId,
  url: 'http://127.0.0.1:1',
  at: new Date(NOW - (more.ageMs ?? 0)).toISOString(),
  capacity: { vcpus: 1, memMib: 1 },
  free: { vcpus: 1, memMib: 1 },
  load: 0,
  images: [],
  driver: 'fake',
  versions: {},
  draining: more.draining ?? false,
});
const beside = (hosts: readonly HostEntry[], polled: (queue: string) => boolean = () => true) =>
  readiness({
    hosts: async () => hosts,
    isPolled: async (queue) => polled(queue),
    hostFreshMs: 30_000,
    now: () => NOW,
  });
const hostCheck = async (...given: Parameters<typeof beside>) => {
  const { ready, checks } = await beside(...given);
  const { ok, detail } = checks.find(({ name }) => name === 'host') ?? {};
  expect(ready).toBe(ok);
  return detail;
};

it.each<[string, HostEntry[], string]>([
  ['no host', [], 'No host has registered lately: start `kiln worker host`.'],
  ['a silent one', [host('a', { ageMs: 31_000 })], 'No host has registered lately: start `kiln worker host`.'],
  [
    'a silent one that is drained',
    [host('a', { ageMs: 31_000, draining: true })],
    'No host has registered lately: start `kiln worker host`.',
  ],
  [
    'a drained one',
    [host('a', { draining: true })],
    'drained and takes no new work: a. `kiln host undrain ID` ends that.',
  ],
  [
    'a drained one and a silent one',
    [host('a', { draining: true }), host('b', { ageMs: 31_000 })],
    'drained and takes no new work: a.',
  ],
  ['five drained ones', ['a', 'b', 'c', 'd', 'e'].map((id) => host(id, { draining: true })), ': a, b, c and 2 more.'],
])('beside %s it is not ready and says so', async (_what, hosts, detail) => {
  expect(await hostCheck(hosts)).toContain(detail);
});

it('is ready beside a drained host and one that takes work; where that one does not poll, it is named for that', async () => {
  const hosts = [host('a', { draining: true }), host('b')];
  expect(await hostCheck(hosts)).toBeUndefined();
  expect(await hostCheck(hosts, (queue) => queue !== 'kiln-host-b')).toBe(
    '1 host(s) have registered, none polls its queue yet.',
  );
});
