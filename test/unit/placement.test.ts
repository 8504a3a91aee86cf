import { describe, expect, it } from 'vitest';
import type { HostEntry } from '../../domain/host-entry.ts';
import { decidePlacement } from '../../domain/placement.ts';

const nowMs = Date.parse('2026-01-01T00:01:00.000Z');

function host(hostId: string, freeMib: number, more: Partial<HostEntry> = {}): HostEntry {
  return {
    hostId,
    url: 'http://127.0.0.1:1',
    at: new Date(nowMs - 1000).toISOString(),
    capacity: { vcpus: 8, memMib: 8192 },
    free: { vcpus: 8, memMib: freeMib },
    load: 0,
    images: [],
    driver: 'fake',
    versions: {},
    draining: false,
    ...more,
  };
}

const request = { resources: { vcpus: 1, memMib: 512 }, nowMs, freshForMs: 10_000, excluded: [] };

describe('placement', () => {
  it('takes the least loaded host that fits, ties by id', () => {
    const decision = decidePlacement([host('b', 4096), host('c', 8192), host('a', 8192), host('d', 100)], request);
    expect(decision).toMatchObject({ kind: 'candidates', hosts: [{ hostId: 'a' }, { hostId: 'c' }, { hostId: 'b' }] });
  });

  it('fails at once what no host could ever fit, and says which is the largest', () => {
    const decision = decidePlacement([host('a', 8192)], { ...request, resources: { vcpus: 1, memMib: 9000 } });
    expect(decision).toMatchObject({
      kind: 'impossible',
      reason: expect.stringContaining('largest, a, has 8 vCPU and 8192 MiB'),
    });
  });

  it('waits with a reason for hosts that are full, stale, draining or not there', () => {
    expect(decidePlacement([], request)).toMatchObject({
      kind: 'wait',
      reason: expect.stringContaining('kiln worker host'),
    });
    expect(decidePlacement([host('a', 100)], request)).toMatchObject({
      kind: 'wait',
      reason: expect.stringContaining('full'),
    });
    const stale = host('a', 8192, { at: new Date(nowMs - 60_000).toISOString() });
    expect(decidePlacement([stale], request)).toMatchObject({
      kind: 'wait',
      reason: expect.stringContaining('heard of'),
    });
    expect(decidePlacement([host('a', 8192, { draining: true })], request).kind).toBe('wait');
    expect(decidePlacement([host('a', 8192)], { ...request, excluded: ['a'] }).kind).toBe('wait');
  });
});
