import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decideSweep, type SweptVm } from '../../../domain/upkeep/sweep-policy.ts';

const LIMITS = { graceMs: 1000, maxDestroys: 2 };
const vm = (vmId: string, more: Partial<SweptVm>): SweptVm => ({
  vmId,
  role: 'service',
  owner: 'open',
  overForMs: 0,
  attached: true,
  ...more,
});

const anyVm = fc.record({
  vmId: fc.uuid(),
  role: fc.constantFrom('service' as const, 'builder' as const),
  owner: fc.constantFrom('open' as const, 'over' as const, 'unreadable' as const),
  overForMs: fc.nat(3000),
  attached: fc.boolean(),
});

describe('sweep decisions', () => {
  it('leaves VMs whose owner is open, and attaches the ones it has not in hand', () => {
    expect(decideSweep({ vms: [vm('a', {}), vm('b', { attached: false })], orphans: [] }, LIMITS)).toEqual([
      { kind: 'attach-vm', vmId: 'b' },
    ]);
  });

  it('destroys only after the grace', () => {
    const over = [vm('old', { owner: 'over', overForMs: 1000 }), vm('new', { owner: 'over', overForMs: 999 })];
    expect(decideSweep({ vms: over, orphans: [] }, LIMITS)).toEqual([
      { kind: 'destroy-vm', vmId: 'old' },
      { kind: 'leave-vm', vmId: 'new', reason: expect.stringContaining('grace') },
    ]);
  });

  it('brakes, the longest over first', () => {
    const over = [5000, 9000, 7000].map((overForMs) => vm(`v${overForMs}`, { owner: 'over', overForMs }));
    const actions = decideSweep({ vms: over, orphans: [] }, LIMITS);
    expect(actions.map((action) => [action.kind, 'vmId' in action ? action.vmId : ''])).toEqual([
      ['destroy-vm', 'v9000'],
      ['destroy-vm', 'v7000'],
      ['leave-vm', 'v5000'],
    ]);
  });

  it('never destroys without proof, never more than the brake allows, and says something of every VM not in order', () => {
    fc.assert(
      fc.property(fc.uniqueArray(anyVm, { selector: ({ vmId }) => vmId }), fc.nat(3), (vms, maxDestroys) => {
        const actions = decideSweep({ vms, orphans: [] }, { graceMs: 1000, maxDestroys });
        const destroyed = actions.flatMap((action) => (action.kind === 'destroy-vm' ? [action.vmId] : []));
        expect(destroyed.length).toBeLessThanOrEqual(maxDestroys);
        for (const { vmId, owner, overForMs } of vms) {
          if (destroyed.includes(vmId)) expect([owner, overForMs >= 1000]).toEqual(['over', true]);
        }
        const quiet = vms.filter(({ owner, attached }) => owner === 'open' && attached).length;
        expect(actions).toHaveLength(vms.length - quiet);
      }),
    );
  });

  it('removes orphans, but not where an operation is under way', () => {
    const orphans = [
      { name: 'x', busy: false },
      { name: 'y', busy: true },
    ];
    expect(decideSweep({ vms: [], orphans }, LIMITS)).toEqual([{ kind: 'remove-orphan', name: 'x' }]);
  });
});
