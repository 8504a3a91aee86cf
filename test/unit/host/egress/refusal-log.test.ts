import { describe, expect, it } from 'vitest';
import type { LogRef } from '../../../../domain/owner.ts';
import { createRefusalLog } from '../../../../host/egress/refusal-log.ts';
import type { VmInspection } from '../../../../ports/vm-driver.ts';

const found = (role: 'service' | 'builder'): VmInspection => ({
  vmId: 'v',
  imageDigest: 'x',
  createdAt: '2026-01-01T00:00:00.000Z',
  owner: { workflowId: 'workload/w1', firstExecutionId: 'f', namespaceId: 'n', epoch: 2, boot: 1, role },
});

function notes(role: 'service' | 'builder' = 'builder') {
  const lines: string[] = [];
  const logs = {
    open: async ({ id, epoch }: LogRef) => ({
      write: (stage: string, level: string, text: string) =>
        void lines.push(`${id} ${epoch} ${stage} ${level} ${text}`),
      flush: async () => undefined,
    }),
  };
  return { lines, told: createRefusalLog({ inspect: async () => found(role), logs, perVm: 3 }) };
}

describe('notes of refused connections', () => {
  it('stand in the log of the workload, each once', async () => {
    const { lines, told } = notes();
    await told.note('v', { name: 'a.example', port: 443 }, 'not on the allow-list');
    await told.note('v', { name: 'a.example', port: 443 }, 'not on the allow-list');
    expect(lines).toEqual(['w1 2 build warn connection to a.example:443 refused: not on the allow-list']);
    const service = notes('service');
    await service.told.note('v', { name: 'a.example', port: 443 }, 'x');
    expect(service.lines[0]).toContain('w1 2 running');
  });

  it('come to an end, whatever names a guest makes up', async () => {
    const { lines, told } = notes();
    for (let index = 0; index < 100; index++)
      await told.note('v', { name: `\u001b[2J${index}\n${'x'.repeat(999)}`, port: 1 }, 'r');
    expect(lines).toHaveLength(3);
    expect(lines[2]).toContain('further refusals are not told');
    expect(lines.every((line) => line.length < 400 && !/[\n\u001b]/.test(line))).toBe(true);
    told.forget('v');
    expect(await told.note('v', { name: 'new.example', port: 1 }, 'r')).toBe(true);
  });
});
