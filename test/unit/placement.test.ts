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

const request = { resources: { vcpus: 1, memMib: 512 }, nowMs, freshForMs: 10_000, excluded: [] as string[] };

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

  const reasonOf = (hosts: readonly HostEntry[], more: Partial<typeof request> = {}) => {
    const decision = decidePlacement(hosts, { ...request, ...more });
    return decision.kind === 'wait' ? decision.reason : decision.kind;
  };

  it('waits for hosts that are not there or silent, and names them', () => {
    expect(reasonOf([])).toContain('kiln worker host');
    const at = new Date(nowMs - 60_000).toISOString();
    expect(reasonOf([host('a', 8192, { at })])).toContain(`No host has been heard of lately: a not since ${at}`);
  });

  it('says how much is missing on the hosts that come closest, and how many more there are', () => {
    const resources = { vcpus: 2, memMib: 1024 };
    expect(reasonOf([host('a', 100), host('b', 1000)], { resources })).toBe(
      'Every host is full for now: 2 vCPU and 1024 MiB asked for, b lacks 24 MiB, a lacks 924 MiB. It starts once something ends there.',
    );
    const busy = host('c', 8192, { free: { vcpus: 1, memMib: 8192 } });
    expect(reasonOf([busy], { resources })).toContain('c lacks 1 vCPU.');
    expect(reasonOf(['a', 'b', 'c', 'd', 'e'].map((id) => host(id, 1)))).toContain(' and 2 more.');
  });

  it('tells hosts that are drained from hosts that have room and do not answer', () => {
    expect(reasonOf([host('a', 8192, { draining: true })])).toContain('is drained and takes no new work: a.');
    const excluded = ['a'];
    expect(reasonOf([host('a', 8192), host('b', 1)], { excluded })).toContain('does not take tasks: a.');
  });
});
