import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { HostEntry } from '../../../domain/capacity/host-entry.ts';
import { decidePlacement } from '../../../domain/capacity/placement.ts';
import { PRIORITIES } from '../../../domain/capacity/priority.ts';
import { aheadOf, type WaitingRequest } from '../../../domain/capacity/waiting-line.ts';

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

describe('placement by what a host really has', () => {
  const short = { memory: { availableMib: 200, floorMib: 1024, vmsMib: 9000 } };

  it('takes no host whose memory is short, whatever is promised', () => {
    const decision = decidePlacement([host('a', 8192, short), host('b', 1024)], request);
    expect(decision).toMatchObject({ kind: 'candidates', hosts: [{ hostId: 'b' }] });
    expect(decidePlacement([host('a', 8192, short)], request)).toMatchObject({
      kind: 'wait',
      reason: expect.stringContaining('short of real memory: a has 200 MiB, and 1024 MiB must stay free'),
    });
  });
});

describe('the line of those who wait', () => {
  const waiting = (workloadId: string, memMib: number, more: Partial<WaitingRequest> = {}): WaitingRequest => ({
    workloadId,
    priority: 3,
    sinceMs: nowMs,
    resources: { vcpus: 1, memMib },
    ...more,
  });

  it('is ordered by priority, then by age', () => {
    const line = [
      waiting('late', 1, { sinceMs: nowMs + 1 }),
      waiting('low', 1, { priority: 5, sinceMs: nowMs - 9 }),
      waiting('old', 1, { sinceMs: nowMs - 1 }),
      waiting('urgent', 1, { priority: 1, sinceMs: nowMs + 2 }),
      waiting('me', 1),
    ];
    const ids = aheadOf(line, { workloadId: 'me', priority: 3, sinceMs: nowMs }).map(({ workloadId }) => workloadId);
    expect(ids).toEqual(['urgent', 'old']);
  });

  it('does not give to a later one what an earlier one waits for, though it would fit', () => {
    const ahead = [waiting('first', 512)];
    expect(decidePlacement([host('a', 512)], { ...request, ahead })).toMatchObject({
      kind: 'wait',
      reason: expect.stringContaining('for those who came first or matter more, next first with 1 vCPU and 512 MiB'),
    });
    expect(decidePlacement([host('a', 1024)], { ...request, ahead })).toMatchObject({ kind: 'candidates' });
  });

  it('keeps what is freed for a big one that waits, on one host only', () => {
    const ahead = [waiting('big', 4096)];
    // `b` lacks less for the big request, so its free capacity is set aside for it and not given to others.
    expect(decidePlacement([host('a', 1024), host('b', 2048)], { ...request, ahead })).toMatchObject({
      kind: 'candidates',
      hosts: [{ hostId: 'a' }],
    });
    expect(decidePlacement([host('b', 2048)], { ...request, ahead }).kind).toBe('wait');
  });

  it('counts on no host that the one ahead could never use', () => {
    const small = host('a', 1024, { capacity: { vcpus: 8, memMib: 1024 } });
    const drained = host('b', 512, { draining: true });
    expect(decidePlacement([small, drained], { ...request, ahead: [waiting('big', 4096)] })).toMatchObject({
      kind: 'candidates',
      hosts: [{ hostId: 'a' }],
    });
  });

  it('serves everybody in the end, and nobody takes what those ahead of it wait for', () => {
    const sizes = fc.array(fc.tuple(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 5 })), { maxLength: 12 });
    fc.assert(
      fc.property(sizes, (wanted) => {
        const line = wanted.map(([size, priority], index) =>
          waiting(`w${index}`, size * 1024, { priority: PRIORITIES[priority - 1] ?? 3, sinceMs: nowMs + index }),
        );
        expect(serveAll(line).sort()).toEqual(line.map(({ workloadId }) => workloadId).sort());
      }),
    );
  });

  const sum = (all: readonly WaitingRequest[]) => all.reduce((mib, { resources }) => mib + resources.memMib, 0);

  /** Serves a line on one host. The last in the line asks first; a workload ends only when no request can be served. */
  function serveAll(all: readonly WaitingRequest[]): string[] {
    const served: WaitingRequest[] = [];
    let line = [...all];
    let ended = 0;
    while (line.length > 0) {
      const free = 8192 - sum(served.slice(ended));
      const next = [...line].reverse().find((one) => {
        const decision = decidePlacement([host('a', free)], { ...request, ...one, ahead: aheadOf(line, one) });
        return decision.kind === 'candidates';
      });
      if (next === undefined) {
        // If nothing is left that could end, a request would starve.
        expect(ended).toBeLessThan(served.length);
        ended += 1;
        continue;
      }
      expect(free - next.resources.memMib).toBeGreaterThanOrEqual(sum(aheadOf(line, next)));
      served.push(next);
      line = line.filter((one) => one !== next);
    }
    return served.map(({ workloadId }) => workloadId);
  }
});
