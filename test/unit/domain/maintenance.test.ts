import { describe, expect, it } from 'vitest';
import {
  assertMaintenanceInput,
  EMPTY_REPORT,
  MAX_PROBLEMS,
  nextScanFrom,
} from '../../../domain/upkeep/maintenance.ts';
import { maintenanceDetails } from '../../../workflows/maintenance/maintenance-details.ts';

describe('maintenance', () => {
  const startedAt = '2026-01-01T12:00:00.000Z';

  it('scans again what closed shortly before its last scan, and all since the first that failed', () => {
    expect(nextScanFrom({ startedAt }, 3_600_000)).toBe('2026-01-01T11:00:00.000Z');
    expect(nextScanFrom({ startedAt, earliestFailed: '2026-01-01T09:30:00.000Z' }, 3_600_000)).toBe(
      '2026-01-01T09:30:00.000Z',
    );
    expect(nextScanFrom({ startedAt, earliestFailed: '2026-01-01T11:30:00.000Z' }, 3_600_000)).toBe(
      '2026-01-01T11:00:00.000Z',
    );
  });

  it.each([
    undefined,
    null,
    {},
    { schemaVersion: 2 },
    { schemaVersion: 1, keep: null },
    { schemaVersion: 1, keep: { logsMs: '1' } },
    { schemaVersion: 1, keep: { logsMs: Number.NaN } },
    { schemaVersion: 1, policies: { pageSize: -1 } },
  ])('refuses the input %j', (input) => {
    expect(() => assertMaintenanceInput(input)).toThrow(expect.objectContaining({ code: 'SPEC_INVALID' }));
  });

  it('shows a page of bounded size in which text from outside is no markup', () => {
    const problems = Array.from({ length: MAX_PROBLEMS }, () => `<b>[x](y)\n# ${'z'.repeat(500)}`);
    const hosts = Array.from({ length: 500 }, (_, index) => ({
      hostId: `host-${index}`,
      swept: index % 2 === 0,
      destroyed: 1,
      freed: 1,
      held: 1,
    }));
    const page = maintenanceDetails({ ...EMPTY_REPORT, hosts, problems }, 'sweep hosts');
    expect(Buffer.byteLength(page)).toBeLessThan(20_000);
    expect(page).not.toContain('<b>');
    expect(page).toContain('and 450 hosts more');
  });

  it('tells the operator what was removed', () => {
    const page = (pruned: typeof EMPTY_REPORT.pruned) => maintenanceDetails({ ...EMPTY_REPORT, pruned }, 'done');
    expect(page({ logs: 0, sources: 0, saves: 3 })).toContain('**Removed:** 0 logs, 0 sources, 3 objects of saves');
    expect(page({ logs: 1, sources: 0 })).toContain('**Removed:** 1 logs, 0 sources');
    expect(page({ logs: 0, sources: 0, saves: 0 })).not.toContain('Removed');
  });
});
